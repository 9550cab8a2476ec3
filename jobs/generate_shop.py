"""Write a synthetic shop with planted structure and known answers: files as a real shop would deliver them.

    ./spark-submit.sh generate_shop --env generated_shop --set generate_shop.events=1000000

Reads    nothing
Writes   generate_shop.directory    events/<day>.csv.gz, items.csv.gz, users.csv.gz, planted.json
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import typer

from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.runner import DryRunOption, EnvOption, Job, SetOption, help_text, running
from recsys.shop_generator import Planted, generate_shop


def folder(config: RecsysConfig, run_date: date) -> Iterator[str]:
    yield f"files   {config.generate_shop.directory}/"


JOB = Job("generate_shop", reads=("nothing",), writes=("generate_shop.directory/",), details=folder)
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run(lake: Lake, config: RecsysConfig, run_date: date) -> Planted:
    return generate_shop(config.generate_shop)


@app.command(name=JOB.name, help=help_text(__doc__))
def main(
    env: EnvOption = "generated_shop",
    set_: SetOption = [],  # noqa: B006  (typer copies it)
    dry_run: DryRunOption = False,
) -> None:
    with running(JOB, env, None, set_, dry_run=dry_run) as context:
        if context:
            planted = run(context.lake, context.config, context.run_date)
            command = f"./spark-submit.sh ingest --env {env} --run-date {planted.first_run_date}"
            print(f"{planted.raw_rows:,} rows written; next: {command}")  # noqa: T201


if __name__ == "__main__":
    app(prog_name=JOB.submitted)
