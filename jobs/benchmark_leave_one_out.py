"""Every recommender on the newest item of every user of a file: `user item item …`, one user a line, oldest first.

    ./spark-submit.sh benchmark_leave_one_out --data Beauty.txt --seeds 1 --only item_item

The whole catalogue is ranked, what the user had is left out. Weights and epochs are chosen on the last-but-one items;
then everything is fitted again with them. A table is printed and written after every seed; the last line is
RESULT {json} with the figures of the default recommender, `blend`, or of the last one that --only names.

Reads    the files
Writes   reports/leave_one_out/<file>-<hash of its path>.md (and what was asked for); what training needs under work/
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from recsys.config.places import from_caller
from recsys.evaluation.leave_one_out import SEEDS, Asked, benchmark, planned, result
from recsys.memory import peak_memory
from recsys.runner import DryRunOption, EnvOption, Job, SetOption, help_text, running

JOB = Job(
    "benchmark_leave_one_out",
    reads=("the files of --data and --attributes",),
    writes=("reports/leave_one_out/<file>-<hash of its path>.md", "work/leave_one_out/"),
)
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(name=JOB.name, help=help_text(__doc__))
def main(
    data: Annotated[Path, typer.Option("--data", help="A line is a user and their items, oldest first.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Further names of --only.")] = None,
    attributes: Annotated[Path | None, typer.Option("--attributes", help="item_id<TAB>words, a line per item.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How often what is random is drawn anew.")] = SEEDS,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="These recommenders alone.")] = None,
    env: EnvOption = "local",
    set_: SetOption = [],  # noqa: B006  (typer copies it)
    dry_run: DryRunOption = False,
) -> None:  # fmt: skip
    words = attributes and from_caller(attributes)
    asked = Asked(from_caller(data), words, seeds, (*(only or ()), *(more or ())))
    job = replace(JOB, details=lambda *_: planned(asked))
    with running(job, env, None, set_, dry_run=dry_run) as context:
        if context is None:
            return
        config = context.config
        rows = benchmark(asked, asked.names(), config, context.lake.spark, peak_memory=peak_memory)
    print("RESULT", json.dumps(result(rows, asked)))  # noqa: T201


if __name__ == "__main__":
    app(prog_name=JOB.submitted)
