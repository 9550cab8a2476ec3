"""Run a whole night, from raw files to a published release, in one Spark session.

    ./spark-submit.sh run_pipeline --env local --run-date 2010-12-10 --bootstrap

Makes the calls that a scheduler would make one by one: ingest, build_features, build_candidates,
build_training_set, train, evaluate, export_onnx, score_top_n, publish. Where the gate refuses a new model, settings of
training are searched within a budget, and the best are trained and shown to the gate, once (tuning.when).

Reads    raw files
Writes   every table, a model, a release
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Annotated

import typer

from recsys.config import RecsysConfig
from recsys.errors import RecsysError
from recsys.runner import DryRunOption, EnvOption, Job, SetOption, help_text, running
from recsys.runner.options import exit_with
from recsys.runner.pipeline import GATE, SEARCH, STEPS, days_of, run_steps, steps_from

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def job_of(steps: Sequence[str]) -> Job:
    """A night of these steps as one job: all that they read, and all that they write."""
    names = [*steps, *([SEARCH] if GATE in steps else [])]
    jobs = [importlib.import_module(f"jobs.{name}").JOB for name in names]
    reads = dict.fromkeys(name for job in jobs for name in job.reads)
    writes = dict.fromkeys(name for job in jobs for name in job.writes)

    def details(config: RecsysConfig, run_date: date) -> Iterator[str]:
        for job in jobs:
            yield from job.details(config, run_date)

    return Job("run_pipeline", tuple(reads), tuple(writes), details)


@app.command(help=help_text(__doc__))
def main(
    run_date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="First day not used.")
    ] = None,
    run_dates: Annotated[
        str | None, typer.Option(metavar="A..B", help="Backfill: every day, in order.")
    ] = None,
    env: EnvOption = "local",
    from_: Annotated[
        str, typer.Option("--from", metavar="STEP", help="Resume at this step.")
    ] = STEPS[0],
    train: Annotated[
        str, typer.Option(metavar="auto|always|never", help="Sets training.when.")
    ] = "",
    bootstrap: Annotated[bool, typer.Option("--bootstrap", help="Allow a first release.")] = False,
    accept_volume: Annotated[
        str, typer.Option(metavar="REASON", help="Take a refused volume anyway.")
    ] = "",
    set_: SetOption = [],  # noqa: B006  (typer copies it)
    dry_run: DryRunOption = False,
) -> None:
    overrides = list(set_)
    overrides += [f"training.when={train}"] if train else []
    overrides += ["gate.bootstrap=true"] if bootstrap else []
    overrides += [f"ingest.accept_volume={json.dumps(accept_volume)}"] if accept_volume else []
    try:
        days, steps = days_of(run_date, run_dates), steps_from(from_)
    except RecsysError as error:
        exit_with(error)
    job = job_of(steps)
    for day in days:
        with running(job, env, str(day), overrides, dry_run=dry_run) as context:
            if context:
                run_steps(context.lake, context.config, context.run_date, steps)


if __name__ == "__main__":
    app(prog_name="./spark-submit.sh run_pipeline")
