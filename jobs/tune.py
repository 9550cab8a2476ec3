"""Search better settings of training on the choosing window, within a budget; nothing is published.

    ./spark-submit.sh tune --env local --run-date 2010-12-10 --trials 20 --minutes 60

Every trial trains a model at the choosing cut-off and chooses the best blend with it; its NDCG@10 there is what counts.
The budget holds over all calls: a search that was killed goes on, and a larger budget adds trials. Another space of
settings, or another live model, begins a new search, but a run date shows the gate one winner at most. The
table of trials is printed; the last line is RESULT {json}. run_pipeline does this by itself where the gate refuses a
new model (tuning.when).

Reads    what train and evaluate read of the choosing day
Writes   reports/<run_date>/tuning.md, work/tuning/, checkpoints/, mlflow.db
"""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated

import typer

from recsys.config import RecsysConfig
from recsys.evaluation.tuning import Study
from recsys.evaluation.tuning_report import result, trials_table, write_report
from recsys.evaluation.tuning_trials import search_settings
from recsys.export import export_model
from recsys.lake import Lake
from recsys.release.pointer import live_model
from recsys.runner import DryRunOption, EnvOption, Job, RunDateOption, SetOption, help_text, running

JOB = Job(
    name="tune",
    reads=("training_examples", "vocabularies", "histories", "events", "seen_items", "items", "users",
           "item_similarity", "transitions", "reorder_intervals", "popularity", "releases/current",
           "releases/blocked.json"),
    writes=("reports/<run_date>/tuning.md", "work/tuning/", "checkpoints/", "mlflow.db"),
)  # fmt: skip


def run(lake: Lake, config: RecsysConfig, run_date: date) -> Study:
    live = live_model(config.paths)
    study = search_settings(lake, config, run_date, export=export_model, live=live)
    write_report(study.searched(), study.today, config.paths.reports / str(run_date))
    return study


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(name=JOB.name, help=help_text(__doc__))
def main(
    run_date: RunDateOption,
    env: EnvOption = "local",
    trials: Annotated[int | None, typer.Option(help="Sets tuning.trials.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Sets tuning.minutes.")] = None,
    set_: SetOption = [],  # noqa: B006  (typer copies it)
    dry_run: DryRunOption = False,
) -> None:
    budget = {"trials": trials, "minutes": minutes}
    overrides = [*set_, *(f"tuning.{k}={v}" for k, v in budget.items() if v is not None)]
    with running(JOB, env, run_date, overrides, dry_run=dry_run) as context:
        if context is None:
            return
        study = run(context.lake, context.config, context.run_date)
    typer.echo(trials_table(study.searched(), study.today))
    typer.echo(f"RESULT {json.dumps(result(study.searched()))}")


if __name__ == "__main__":
    app(prog_name=JOB.submitted)
