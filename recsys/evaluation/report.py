"""What people see of an evaluation in a terminal: a table in text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from recsys.config.sections import GATE_K
from recsys.records import Recipe

Row = Mapping[str, Any]

REPORT_FILE = "evaluation_report.html"
"""The page of a night, in its folder of reports."""

COLUMNS = (("ndcg", "NDCG"), ("recall", "recall"), ("mrr", "MRR"), ("coverage", "coverage"))
PROBABILITIES = {"auc": "AUC", "log_loss": "log loss", "calibration_error": "calibration error"}
TITLES = {"all": "all purchases", "first": "first purchases alone"}
WIDTH = 150


def metrics_table(
    rows: Iterable[Row], recipe: Recipe | None = None, *, k: int = GATE_K, window: str = "measuring"
) -> str:
    """The figures at ``k`` on one window as text, best NDCG first, one table per kind of target.

    ``rows`` are rows of the table ``metrics`` (mappings; ``Row.asDict()`` from Spark). With ``recipe`` the
    blend's weights are printed above.
    """
    of_window = [row for row in rows if row["window"] == window]
    found = [row for row in of_window if row["k"] == k]
    out = StringIO()
    console = Console(file=out, width=WIDTH, force_terminal=False, color_system=None)
    if recipe is not None:
        console.print(f"blend: {recipe_in_words(recipe)}", highlight=False)
    for kind, title in TITLES.items():
        mine = [row for row in found if row["targets"] == kind]
        if mine:
            console.print(
                _table(mine, f"{title}, {window} window from {mine[0]['as_of']}, k = {k}")
            )
    if shown := [row for row in of_window if row["metric"] in PROBABILITIES]:
        console.print(_probability_table(shown))
    return out.getvalue()


def recipe_in_words(recipe: Recipe) -> str:
    """The weights that are not 0; a weight for the model is always told."""
    weights = {
        name: getattr(recipe, name)
        for name in ("model", "similarity", "transitions", "repeat", "due", "popularity")
    }
    told = [f"{name} {value:g}" for name, value in weights.items() if value or name == "model"]
    told.append(f"decay {recipe.decay:g}")
    if recipe.targets_only:
        told.append("item-item from purchases only")
    if recipe.re_ranks:
        told.append(f"first {recipe.rerank} re-ranked with weight {recipe.rerank_weight:g}")
    return ", ".join(told)


def part_order(part: str) -> tuple[float, str]:
    """Parts of a slice in the order of the numbers that they begin with, then those without by name."""
    number = re.match(r"\d+", part)
    return (int(number[0]) if number else math.inf, part)


def _table(rows: list[Row], title: str) -> Table:
    by_name: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_name.setdefault(row["recommender"], {})[row["metric"]] = row
    gains = sorted({row["metric"] for row in rows if row["metric"].startswith("ndcg_above_")})
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("recommender", no_wrap=True)
    for _, name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for gain in gains:
        table.add_column(f"NDCG above\n{gain.removeprefix('ndcg_above_')}", justify="right")
    ordered = sorted(by_name, key=lambda name: -(by_name[name]["ndcg"]["value"] or 0))
    for name in ordered:
        figures = by_name[name]
        table.add_row(
            name,
            *(cell(figures.get(metric)) for metric, _ in COLUMNS),
            *(cell(figures.get(gain), sign=True) for gain in gains),
        )
    users = next(iter(by_name[ordered[0]].values()))["num_users"]
    table.caption = (
        f"95 % intervals from a bootstrap over {users} users, of coverage from a jackknife,\n"
        "each for itself; differences are paired"
    )
    return table


def _probability_table(rows: list[Row]) -> Table:
    figures = {(row["recommender"], row["metric"]): row for row in rows}
    title = "probability that an item shown is taken"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("model", no_wrap=True)
    for name in PROBABILITIES.values():
        table.add_column(name, justify="right", no_wrap=True)
    for model in dict.fromkeys(name for name, _ in figures):
        table.add_row(model, *(cell(figures.get((model, metric))) for metric in PROBABILITIES))
    table.caption = f"95 % intervals from a bootstrap over {rows[0]['num_users']} users"
    return table


def cell(row: Row | None, *, sign: bool = False) -> str:
    """A figure with its interval: ``.3890 [.374 .404]``; nothing where there is none."""
    if row is None or row["value"] is None:
        return ""
    value = _short(row["value"], 4, sign=sign)
    if row["low"] is None:
        return value
    return f"{value} [{_short(row['low'], 3, sign=sign)} {_short(row['high'], 3, sign=sign)}]"


def _short(value: float, digits: int, *, sign: bool) -> str:
    """``.379``: without the 0 before the point, so that a row fits a line."""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
