"""Results as an aligned table or as CSV, on standard output."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

WIDEST = 60
"""Characters of one cell; longer ones end in …"""

LARGE, EXACT = 1e5, 2.0**53


def print_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns under their names, numbers to the right."""
    sys.stdout.write(aligned(names, rows))


def print_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


def aligned(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    values = list(rows)
    if not names:
        return ""
    cells = [[_cell(value) for value in row] for row in values]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    right = [
        bool(values) and all(value is None or _is_number(value) for value in column)
        for column in (zip(*values, strict=True) if values else [()] * len(names))
    ]
    lines = [_line(names, widths, right), "  ".join("-" * width for width in widths)]
    lines += [_line(row, widths, right) for row in cells]
    counted = "1 row" if len(values) == 1 else f"{len(values)} rows"
    if any(len(_text(value)) > WIDEST for row in values for value in row):
        counted += f"; cells end at {WIDEST} characters, recsys sql --csv has them whole"
    return "\n".join([*lines, f"({counted})", ""])


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()


def _cell(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _text(value: Any) -> str:
    text = "" if value is None else _float(value) if isinstance(value, float) else str(value)
    return " ".join(text.split()) if "\n" in text else text


def _float(value: float) -> str:
    """Six digits; a sum of many rows keeps those before its point."""
    if LARGE <= abs(value) < EXACT:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value:g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)
