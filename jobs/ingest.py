"""Read the shop's raw files into the lake: what is sound, what was refused and why, with counts that add up.

    ./spark-submit.sh ingest --env local --run-date 2010-12-10

Reads    the files and tables of conf/…/sources that ingest.sources names
Writes   events  items  users  quarantine    the rows of these files, replaced
         data_quality                        run-date, replaced
"""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated

import typer

from recsys.config import RecsysConfig
from recsys.ingest import Ingested, ingest_sources
from recsys.ingest.descriptions import raw_sources
from recsys.lake import Lake
from recsys.release.pointer import live_release
from recsys.runner import DryRunOption, EnvOption, Job, RunDateOption, SetOption, help_text, running

JOB = Job(
    "ingest",
    reads=("the raw files and tables of ingest.sources", "events", "releases/current"),
    writes=("events", "items", "users", "quarantine", "data_quality"),
    details=raw_sources,
)
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run(lake: Lake, config: RecsysConfig, run_date: date) -> Ingested:
    def live() -> str | None:
        release = live_release(config.paths)
        return release.release_id if release else None

    return ingest_sources(lake, config, run_date, live)


@app.command(name=JOB.name, help=help_text(__doc__))
def main(
    run_date: RunDateOption,
    env: EnvOption = "local",
    accept_volume: Annotated[
        str,
        typer.Option(
            metavar="REASON", help="Take a short, doubled or missing day; the reason is recorded."
        ),
    ] = "",
    set_: SetOption = [],  # noqa: B006  (typer copies it)
    dry_run: DryRunOption = False,
) -> None:
    accepted = [f"ingest.accept_volume={json.dumps(accept_volume)}"] if accept_volume else []
    overrides = [*set_, *accepted]
    with running(JOB, env, run_date, overrides, dry_run=dry_run) as context:
        if context:
            print(run(context.lake, context.config, context.run_date))  # noqa: T201  (the reconciliation)


if __name__ == "__main__":
    app(prog_name=JOB.submitted)
