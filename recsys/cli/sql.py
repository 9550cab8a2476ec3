"""`recsys sql`: DuckDB over the Delta tables."""

from __future__ import annotations

from typing import Annotated

import typer

from recsys.cli.shared import EnvOption, SetOption, exiting
from recsys.config import load_config


def sql_command(
    query: Annotated[str | None, typer.Argument(help="One query; a prompt without it.")] = None,
    release: Annotated[
        str, typer.Option("--release", metavar="RELEASE", help="Tables as this release read them.")
    ] = "",
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    env: EnvOption = "local",
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Ask the tables in SQL. Views: every table by name, top_n, top_n_today, quarantine_reasons, live_release."""
    with exiting():
        from recsys.sql.duck import open_lake
        from recsys.sql.output import print_csv, print_table
        from recsys.sql.prompt import prompt

        show = print_csv if csv else print_table
        with open_lake(load_config(env, set_).paths, release) as lake:
            if query is None:
                prompt(lake, show)
            else:
                show(*lake.query(query))
