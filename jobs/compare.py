"""Recommenders side by side: fitted on the shop before a cut-off, measured on the days after it.

    ./spark-submit.sh compare --models my_shop.models:TwoTower,item_item,blend --cut-offs 3

A model is a shipped recommender (`--models ?` lists them, `all` is all that the shop has enough for), a class of your
own on PYTHONPATH or in the folder you call from, `mlflow:RUN_ID` for the sequential model of that run, the full path
of a .parquet of user_id, item_id, score, or `top_n_lists` for what the night of the cut-off listed. The others are
compared with --reference, by default the best simple baseline among them; --run-date is by default the day after the
last event. A table is printed and written after every cut-off; the last line is RESULT {json}.

Reads    events, items, users, vocabularies, top_n_lists, releases/blocked.json; of an MLflow run mlflow.db and its
         models/
Writes   reports/compare/<run_date>-<models>.md and .json; what training needs under work/
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from recsys.config import RecsysConfig
from recsys.evaluation.comparison import Asked, compare, planned
from recsys.evaluation.comparison_table import Json, summary, table, write_report
from recsys.lake import Lake
from recsys.memory import peak_memory
from recsys.recommenders.named import about
from recsys.runner import DryRunOption, EnvOption, Job, SetOption, help_text, running

JOB = Job(
    "compare",
    reads=("events", "items", "users", "vocabularies", "top_n_lists", "releases/blocked.json", "mlflow.db", "models/"),
    writes=("reports/compare/<run_date>-<models>.md", "reports/compare/<run_date>-<models>.json", "work/compare/"),
)  # fmt: skip


def run(lake: Lake, config: RecsysConfig, asked: Asked) -> Json:
    for found in compare(lake, config, asked, peak_memory=peak_memory):
        told = summary(found, asked, config)
        write_report(told, asked, config)
        print(table(told))  # noqa: T201
    return told


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(name=JOB.name, help=help_text(__doc__))
def main(
    models: Annotated[str, typer.Option("--models", metavar="A,B,…", help="Who is compared.")],
    cut_offs: Annotated[int, typer.Option("--cut-offs", help="Windows, one after the other.")] = 1,
    sample: Annotated[float, typer.Option("--sample", help="Part of the measured users, by hash.")] = 1.0,
    reference: Annotated[str, typer.Option("--reference", help="Whom the others are compared with.")] = "",
    run_date: Annotated[str | None, typer.Option("--run-date", metavar="YYYY-MM-DD", help="First day unused.")] = None,
    env: EnvOption = "local",
    set_: SetOption = [],  # noqa: B006  (typer copies it)
    dry_run: DryRunOption = False,
) -> None:  # fmt: skip
    if models == "?":
        return typer.echo("\n".join(about()))
    asked = partial(Asked, tuple(models.split(",")), cut_offs=cut_offs, sample=sample, reference=reference)  # fmt: skip
    job = replace(JOB, details=lambda config, day: planned(asked(day), config))
    with running(job, env, run_date, set_, dry_run=dry_run) as context:
        if context:
            told = run(context.lake, context.config, asked(context.run_date))
            print("RESULT", json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    app(prog_name=JOB.submitted)
