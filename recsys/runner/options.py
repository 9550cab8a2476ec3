"""The options every job shares, declared once."""

from __future__ import annotations

from datetime import date
from typing import Annotated, NoReturn

import typer

from recsys.errors import ConfigError, RecsysError


def parse_day(text: str) -> date:
    """A day in ISO form.

    Raises:
        ConfigError: not YYYY-MM-DD, or no such day.
    """
    try:
        if len(text) != len("2010-12-10"):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--run-date takes a day such as 2010-12-10, got {text!r}") from None


EnvOption = Annotated[str, typer.Option("--env", help="Environment: a folder of conf/.")]
RunDateOption = Annotated[
    str,
    typer.Option(
        "--run-date", metavar="YYYY-MM-DD", help="First day not used; days before it are."
    ),
]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a config key; repeatable.")
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print config, reads, writes and the submit command; touch nothing."
    ),
]


def exit_with(error: RecsysError) -> NoReturn:
    """Say what is wrong and exit with the code of its kind."""
    typer.echo(f"error: {error}", err=True)
    raise typer.Exit(error.exit_code) from None


def help_text(doc: str | None) -> str:
    """A job's docstring as help: its lines stay as they are (click would join them)."""
    return (doc or "").replace("\nReads", "\n\b\nReads")
