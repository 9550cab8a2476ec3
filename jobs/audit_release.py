"""Compare the copies of every answer: tables, snapshot, services, lists scored anew, the item matrix.

    ./spark-submit.sh audit_release --env local --run-date 2010-12-10

Ends with 3 where copies of the live release differ; the message and the table consistency name what does.
--set 'audit.services=[http://127.0.0.1:8000]' asks a lookup service, too.

Reads    the live release, the tables at the versions that it names, vocabularies, seen_items, item_similarity,
         transitions, reorder_intervals, popularity as of its run date, the models' folders
Writes   consistency    run_date = run-date, replaced atomically
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.monitoring.audit import audit
from recsys.monitoring.verdicts import Comparison
from recsys.runner import Job, job_app

JOB = Job(
    "audit_release",
    reads=("top_n_lists", "similar_items", "also_bought", "popular_items", "rules", "events", "items", "users",
           "histories", "item_vectors", "vocabularies", "seen_items", "item_similarity", "transitions",
           "reorder_intervals", "popularity",
           "models/<model_version>/", "releases/current", "releases/<release_id>/",
           "releases/blocked.json"),
    writes=("consistency",),
)  # fmt: skip


def run(lake: Lake, config: RecsysConfig, run_date: date) -> list[Comparison]:
    return audit(lake, config, run_date, now=datetime.now(UTC))


app = job_app(JOB, run, __doc__)

if __name__ == "__main__":
    app(prog_name=JOB.submitted)
