"""Choose the blend on one window, measure it and every baseline on the next, and let the gate decide.

    ./spark-submit.sh evaluate --env local --run-date 2010-12-10 --bootstrap

A refused model ends well (exit 0) while a release is live: the live model scores on and the record says
why. With no release to fall back on the job is refused (exit 3); --bootstrap allows a first release.

Before anything is measured, what was built as of the two days is checked for knowledge of later ones; such a
leak is refused whatever is live (exit 3).

Reads    what train made, events, items, users, and as of the two days vocabularies, histories, seen_items,
         item_similarity, transitions, reorder_intervals, popularity, item_features, user_features
Writes   metrics, metric_slices, gate_verdicts    run_date = run-date, replaced atomically
         a page under reports, a model card beside the release's model
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from recsys.config import RecsysConfig
from recsys.evaluation.live_recipe import Live
from recsys.evaluation.nightly import Evaluation, evaluate_models, without_a_new_model
from recsys.export import export_model, export_ranking
from recsys.lake import Lake
from recsys.records import TrainingRecord
from recsys.release.pointer import live_model, live_release
from recsys.runner import DryRunOption, EnvOption, Job, RunDateOption, SetOption, help_text, running

JOB = Job(
    name="evaluate",
    reads=("events", "histories", "seen_items", "items", "users", "vocabularies", "item_similarity", "transitions",
           "reorder_intervals", "popularity", "item_features", "user_features", "models/trained-<run_date>.json",
           "models/<model_version>/", "releases/current", "releases/blocked.json"),
    writes=("metrics", "metric_slices", "gate_verdicts", "models/<model_version>/model_card.md",
            "models/evaluated-<run_date>.json", "reports/<run_date>/"),
)  # fmt: skip


def run(lake: Lake, config: RecsysConfig, run_date: date) -> Evaluation:
    training, release = TrainingRecord.read(config.paths, run_date), live_release(config.paths)
    live = Live(release.release_id, release.recipe, live_model(config.paths)) if release else None
    if not training.trained:
        return without_a_new_model(config, run_date, training.reason, live)
    for role, version in training.models.items():
        if role != "release":  # export_onnx exports that one, with its parity report
            export_model(config.paths.models / version)
    for role in sorted(training.ranking.keys() & {"choosing", "measuring"}):
        export_ranking(config.paths.models / training.ranking[role])
    return evaluate_models(lake, config, run_date, training, live)


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(name=JOB.name, help=help_text(__doc__))
def main(
    run_date: RunDateOption,
    env: EnvOption = "local",
    bootstrap: Annotated[bool, typer.Option("--bootstrap", help="Allow a first release.")] = False,
    set_: SetOption = [],  # noqa: B006  (typer copies it)
    dry_run: DryRunOption = False,
) -> None:
    overrides = [*set_, *(["gate.bootstrap=true"] if bootstrap else [])]
    with running(JOB, env, run_date, overrides, dry_run=dry_run) as context:
        if context:
            typer.echo(run(context.lake, context.config, context.run_date).table)


if __name__ == "__main__":
    app(prog_name=JOB.submitted)
