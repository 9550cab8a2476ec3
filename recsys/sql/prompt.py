"""The interactive prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from recsys.errors import RecsysError
from recsys.sql.duck import DuckLake

Show = Callable[[Sequence[str], Iterable[Sequence[Any]]], None]


def prompt(lake: DuckLake, show: Show) -> None:
    """Read statements, each ended by ``;``, until the end of input (Ctrl-D); Ctrl-C drops a half-typed one."""
    typed = sys.stdin.isatty()
    if typed:
        import readline  # noqa: F401, PLC0415  (line editing and history for input())

        sys.stdout.write(
            f"tables: {', '.join(lake.tables)}\nend a statement with ; and the prompt with Ctrl-D\n"
        )
    lines: list[str] = []
    while True:
        try:
            lines.append(input(("   ...> " if lines else "recsys> ") if typed else ""))
        except EOFError:
            _run(lake, show, "\n".join(lines))
            return
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            lines = []
            continue
        if lines[-1].rstrip().endswith(";"):
            _run(lake, show, "\n".join(lines))
            lines = []


def _run(lake: DuckLake, show: Show, statement: str) -> None:
    if not statement.strip().strip(";"):
        return
    try:
        show(*lake.query(statement))
    except RecsysError as error:
        sys.stdout.write(f"error: {error}\n")
