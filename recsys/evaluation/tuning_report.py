"""What people see of a search: its trials, the best, and why it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from recsys.config.tuning import Settings
from recsys.evaluation.tuning import Searched, Trial
from recsys.records import write_atomically

REPORT = "tuning.md"
WIDTH = 300  # nothing is broken over lines: the last column is as long as it is


def trials_table(searched: Searched, today: Settings) -> str:
    """The trials as text, the best first, those that failed last; what is used today is marked."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    names = sorted(today)
    for column in (
        "trial",
        "NDCG@10",
        *names,
        "epochs",
        "model",
        "min",
        "blend, or what went wrong",
    ):
        table.add_column(column, justify="left" if column.startswith("blend") else "right")
    for trial in sorted(searched.trials, key=_order):
        table.add_row(*_cells(trial, names, today))
    out = StringIO()
    Console(file=out, width=WIDTH, force_terminal=False, color_system=None).print(table)
    return "\n".join(
        [*(line.rstrip() for line in out.getvalue().splitlines()), *verdict(searched, today), ""]
    )


def verdict(searched: Searched, today: Settings) -> Iterator[str]:
    """Why it stopped, what is best, and how to use it."""
    yield f"stopped: {searched.stopped}; {len(searched.trials)} trials in {searched.seconds / 60:.1f} minutes"
    best = searched.best
    if best is None:
        yield "no trial came to an end: what is used today stays"
    elif best.settings == today:
        yield f"nothing was better than what is used today, NDCG@10 {best.ndcg:.5f} on the choosing window"
    else:
        changed = {k: v for k, v in best.settings.items() if v != today[k]}
        yield f"best: trial {best.number}, NDCG@10 {best.ndcg:.5f} on the choosing window, which chose it"
        yield "to train with it: " + " ".join(f"--set training.{k}={v}" for k, v in changed.items())


def result(searched: Searched) -> dict[str, Any]:
    """For programs: the best trial and what was spent."""
    best = searched.best
    return {
        "trials": len(searched.trials),
        "failed": sum(bool(trial.failed) for trial in searched.trials),
        "minutes": round(searched.seconds / 60, 2),
        "stopped": searched.stopped,
        "best": None if best is None else {"trial": best.number, "ndcg_at_10": best.ndcg, "settings": best.settings},
    }  # fmt: skip


def write_report(searched: Searched, today: Settings, folder: Path) -> Path:
    """The table as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"# Search for settings of training\n\n```\n{trials_table(searched, today)}```\n"
    write_atomically(folder / REPORT, text.encode())
    return folder / REPORT


def _order(trial: Trial) -> tuple[bool, float]:
    return bool(trial.failed), -trial.ndcg if not trial.failed else trial.number


def _cells(trial: Trial, names: list[str], today: Settings) -> Iterator[str]:
    yield f"{trial.number}{' (today)' if trial.settings == today else ''}"
    yield "" if trial.failed else f"{trial.ndcg:.5f}"
    yield from (f"{trial.settings[name]:.4g}" if name in trial.settings else "" for name in names)
    yield str(trial.facts.get("epochs", ""))
    model = trial.facts.get("model_ndcg_at_10")
    yield "" if model is None else f"{model:.5f}"
    yield f"{trial.seconds / 60:.1f}"
    told = trial.failed or str(trial.facts.get("blend", ""))
    yield told if trial.again is None else f"{told} (trial {trial.again} was killed)"
