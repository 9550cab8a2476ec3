"""Train the models: a fit of each per cut-off, in training processes that petastorm feeds.

    ./spark-submit.sh train --env local --run-date 2010-12-10 [--train auto|always|never]

Reads    training_examples, vocabularies, histories, events (targets of the choosing window); for a ranking model
         (ranking.enabled) items, users, item_features, too
Writes   item_vectors   as_of = each cut-off; model folders, checkpoints, the MLflow run and the record of it

A run that was killed continues from its last checkpoint and gives the same models.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.records import TrainingRecord
from recsys.release.pointer import live_model
from recsys.release.schedule import training_due
from recsys.runner import DryRunOption, EnvOption, Job, RunDateOption, SetOption, help_text, running
from recsys.training.train import not_trained, train_models

JOB = Job(
    name="train",
    reads=("training_examples", "vocabularies", "histories", "events", "items", "users", "item_features",
           "releases/current"),
    writes=("item_vectors", "models/<model_version>/", "models/trained-<run_date>.json", "checkpoints/",
            "mlflow.db"),
)  # fmt: skip


def run(lake: Lake, config: RecsysConfig, run_date: date) -> TrainingRecord:
    due = training_due(config, run_date)
    if not due.due:
        return not_trained(config, run_date, due.reason)
    return train_models(lake, config, run_date, reason=due.reason, live=live_model(config.paths))


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(name=JOB.name, help=help_text(__doc__))
def main(
    run_date: RunDateOption,
    env: EnvOption = "local",
    train: Annotated[
        str, typer.Option(metavar="auto|always|never", help="Sets training.when.")
    ] = "",
    set_: SetOption = [],  # noqa: B006  (typer copies it)
    dry_run: DryRunOption = False,
) -> None:
    overrides = [*set_, *([f"training.when={train}"] if train else [])]
    with running(JOB, env, run_date, overrides, dry_run=dry_run) as context:
        if context:
            run(context.lake, context.config, context.run_date)


if __name__ == "__main__":
    app(prog_name=JOB.submitted)
