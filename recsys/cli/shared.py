"""What the commands share: options, and errors as messages and exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from recsys.errors import EXIT_USAGE, RecsysError

EnvOption = Annotated[str, typer.Option("--env", help="Environment: a folder of conf/.")]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a config key; repeatable.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the table releases.")]

EXTRAS = {
    "duckdb": "batch",
    "duckdb_extension_delta": "batch",
    "fsspec": "serving",
    "granian": "serving",
    "lmdb": "serving",
    "orjson": "serving",
    "prometheus_client": "serving",
    "starlette": "serving",
}
"""Module -> the extra that brings it."""


@contextmanager
def exiting() -> Iterator[None]:
    """Turn our errors, and an extra that is not installed, into a message and an exit code."""
    try:
        yield
    except RecsysError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        typer.echo(
            f"error: this command needs {error.name}, which is not installed: "
            f"pip install 'recsys[{extra}]' (in a checkout: make setup)",
            err=True,
        )
        raise typer.Exit(EXIT_USAGE) from None
