"""Take away what is old: days and versions of tables, models, checkpoints, records, reports, scratch files.

    ./spark-submit.sh clean_up --env local --run-date 2010-12-10

What stays for how long is the section retention of conf. What a release on the shelf or a running job needs
stays whatever its age. --dry-run lists what would go.

Reads    the releases' manifests, the records of the nights, the tables' logs
Writes   every table (old days and files go), clean_ups; models, checkpoints, reports, work and releases (old ones go)
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime

from recsys.config import RecsysConfig
from recsys.contracts import TABLES
from recsys.lake import Lake
from recsys.retention.clean_up import Cleaned, clean_up, would_go
from recsys.runner import Job, job_app


def _details(config: RecsysConfig, run_date: date) -> Iterable[str]:
    found = list(would_go(config, run_date, datetime.now(UTC)))
    return found or ["goes    nothing: by section retention of conf all is young enough, or held"]


JOB = Job(
    "clean_up",
    reads=("releases/<release_id>/", "models/<record>-<run_date>.json"),
    writes=(*TABLES, "models/", "checkpoints/", "reports/", "work/", "releases/"),
    details=_details,
)


def run(lake: Lake, config: RecsysConfig, run_date: date) -> list[Cleaned]:
    return clean_up(lake, config, run_date, now=datetime.now(UTC))


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app(prog_name=JOB.submitted)
