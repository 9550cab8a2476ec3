"""Two ways of doing the same, timed in turn on the same input, and one line that says whether the target is met.

The machine's mood lasts longer than a round: what counts is the ratio within a round, its median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import operator
import statistics
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TARGETS = Path(__file__).with_name("targets.toml")
ROUNDS = 5
MEETS: Mapping[str, Callable[[float, float], bool]] = {
    "at_least": operator.ge,
    "at_most": operator.le,
    "exactly": operator.eq,
}


@dataclass(frozen=True)
class Condition:
    """A line of targets.toml."""

    benchmark: str
    case: str

    @property
    def wanted(self) -> tuple[float, str]:
        """The figure, and what a ratio must be to it: a key of ``MEETS``.

        Raises:
            KeyError: targets.toml has no such line, or one that is no condition.
        """
        found = tomllib.loads(TARGETS.read_text())[self.benchmark][self.case]
        [(bound, figure)] = found.items() if isinstance(found, dict) else [("at_least", found)]
        if bound not in MEETS:
            raise KeyError(f"{self.benchmark}: {self.case}: {bound} is none of {', '.join(MEETS)}")
        return figure, bound

    def report(self, ratios: Sequence[float], *, measured: bool = True, **beside: object) -> bool:
        """Print the RESULT line of the ratios of the rounds; returns whether the target is met.

        Where not ``measured``, the ratios are worked out from other runs: "met" is null, and nothing is claimed.
        """
        wanted, bound = self.wanted
        ratio = statistics.median(ratios)
        # What must be exact must be so in every round.
        met = all(MEETS[bound](one, wanted) for one in (ratios if bound == "exactly" else [ratio]))
        line = {
            "benchmark": self.benchmark,
            "case": self.case,
            "ratio": round(ratio, 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
            "wanted": wanted,
            "met": met if measured else None,
        }
        print("RESULT", json.dumps(line | beside))
        return met and measured


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternately(
    sides: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS, repeats: int = 1
) -> dict[str, list[float]]:
    """Seconds of each side, by round; a round runs every side ``repeats`` times and takes the median.

    Each side runs once before the first round: caches, lazy imports and threads are then there.
    """
    for work in sides.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            taken[name].append(statistics.median(seconds(work) for _ in range(repeats)))
    return taken


def ratios(taken: Mapping[str, Sequence[float]], slow: str, fast: str) -> list[float]:
    """How many times as fast ``fast`` is, by round."""
    return [a / b for a, b in zip(taken[slow], taken[fast], strict=True)]


def show(taken: Mapping[str, Sequence[float]]) -> None:
    """A line per side: the median, the least and the greatest."""
    for name, values in taken.items():
        median, least, most = (1e3 * f(values) for f in (statistics.median, min, max))
        print(f"{name}: {median:.1f} ms ({least:.1f} to {most:.1f})")


def arguments(doc: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="both sides, in under a minute")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    return parser
