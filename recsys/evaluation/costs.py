"""What each of several recommenders took: seconds and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger()

PeakMemory = Callable[[], AbstractContextManager[list[float]]]
"""Yields a list whose one item becomes the peak of resident bytes."""


@contextmanager
def timed() -> Iterator[list[float]]:
    """Yields a list whose one item becomes the seconds inside."""
    started, seconds = time.monotonic(), [0.0]
    yield seconds
    seconds[0] = time.monotonic() - started


@dataclass
class Spent:
    seconds: float = 0.0
    peak_bytes: float = 0.0


@dataclass
class Costs:
    """What every recommender took so far."""

    peak_memory: PeakMemory
    of: dict[str, Spent] = field(default_factory=dict)

    @contextmanager
    def clock(self, name: str) -> Iterator[Spent]:
        spent = self.of.setdefault(name, Spent())
        with timed() as seconds:
            yield spent
        spent.seconds += seconds[0]

    @contextmanager
    def asked(self, name: str, peak: list[float]) -> Iterator[None]:
        """``peak``: of one watch over all blocks, since one for every block would cost more than what it watches."""
        peak[0] = 0.0
        with self.clock(name) as spent:
            yield
        spent.peak_bytes = max(spent.peak_bytes, peak[0])

    @contextmanager
    def measured(self, name: str, what: str) -> Iterator[None]:
        with self.clock(name) as spent, self.peak_memory() as peak:
            before = spent.seconds
            yield
        spent.peak_bytes = max(spent.peak_bytes, peak[0])
        log.info(what, recommender=name, seconds=round(spent.seconds - before, 1))
