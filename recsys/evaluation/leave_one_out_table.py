"""The leave-one-out benchmark's figures: one recommender and seed a row, and the table of their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

KS = (5, 10)


@dataclass(frozen=True)
class Row:
    """One recommender, one seed."""

    recommender: str
    seed: int
    num_users: int
    recall: dict[int, float]
    """By k: the share of users whose newest item is in the first k."""
    ndcg: dict[int, float]
    seconds: float
    """To choose, to fit again and to score; of the blend with its parts."""
    peak_memory_mb: float
    """Of the whole process tree, those who were fitted before included, while it chose, was fitted and was asked."""

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Row:
        by_k = {
            name: {int(k): value for k, value in read[name].items()} for name in ("recall", "ndcg")
        }
        return cls(**{**read, **by_k})

    @property
    def figures(self) -> dict[str, float]:
        return {
            f"{letter}@{k}": values[k]
            for k in KS
            for letter, values in (("R", self.recall), ("N", self.ndcg))
        }


def summary(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """By recommender: mean over the seeds, and the spread (largest less smallest), of every figure."""
    names = dict.fromkeys(row.recommender for row in rows)
    found: dict[str, dict[str, float]] = {}
    for name in names:
        mine = [row for row in rows if row.recommender == name]
        figures = {key: [row.figures[key] for row in mine] for key in mine[0].figures}
        found[name] = {key: float(np.mean(values)) for key, values in figures.items()}
        found[name] |= {
            f"{key} spread": max(values) - min(values) for key, values in figures.items()
        }
        found[name]["seconds"] = float(np.mean([row.seconds for row in mine]))
        found[name]["peak_memory_mb"] = max(row.peak_memory_mb for row in mine)
    return found


def table(rows: Sequence[Row], *, file: str, of_seeds: int) -> str:
    """For people, the best first."""
    found = summary(rows)
    seeds = len({row.seed for row in rows})
    keys = [f"{letter}@{k}" for k in KS for letter in "RN"]
    lines = [
        f"{file}: the newest item of {rows[0].num_users:,} users, all items ranked, mean of {seeds} of "
        f"{of_seeds} seeds (largest less smallest). Memory is that of the whole process tree, all who were "
        "fitted before included, while one chose, was fitted and was asked.",
        "",
        "| recommender | " + " | ".join(keys) + " | seconds | peak memory, GB |",
        "|-" * (len(keys) + 3) + "|",
    ]
    for name, values in sorted(found.items(), key=lambda one: -one[1]["N@10"]):
        cells = [f"{values[key]:.4f} ({values[f'{key} spread']:.4f})" for key in keys]
        memory = values["peak_memory_mb"] / 1000
        lines.append(
            f"| {name} | " + " | ".join(cells) + f" | {values['seconds']:.0f} | {memory:.1f} |"
        )
    return "\n".join(lines) + "\n"
