"""What this machine itself does, at a job's shapes and in the same run: a RESULT line has it beside its figure.

The product is torch's: another library's may be faster on this processor.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.dense import copy, copy_bytes, product, vectors
from benchmarks.paired import alternately

THREADS = 2
PRODUCT, COPY = "product alone", "memory copy"
ROUNDS, REPEATS = 3, 3
"""Where the limits are no sides of their own."""
MOST_USERS = 8192
"""Of a product that is timed."""

Limits = Mapping[str, float]


@dataclass(frozen=True)
class Shape:
    """Of the product of users and items that a job asks for."""

    users: int
    items: int
    dim: int

    def sides(self) -> dict[str, Callable[[], object]]:
        """torch's plain float32 product, which finds nothing, and a copy of a batch's scores."""
        work = product(vectors(self.users, self.dim, 1), vectors(self.items, self.dim, 2))
        return {PRODUCT: work, COPY: copy(self.items)}

    def rates(self, taken: Mapping[str, Sequence[float]]) -> Limits:
        """Of the seconds of ``sides``."""
        work = 2e-9 * self.users * self.items * self.dim
        return {
            "product_gflops": rounded(work / statistics.median(taken[PRODUCT])),
            **copied(self.items, taken[COPY]),
        }


def copied(items: int, seconds: Sequence[float]) -> Limits:
    """Reading and writing together."""
    return {"copy_gb_s": rounded(1e-9 * copy_bytes(items) / statistics.median(seconds))}


def rounded(rate: float) -> float:
    """To three digits: a tiny product is far from the figure of a large one."""
    return float(f"{rate:.3g}")


def of_products(users: int, items: int, dim: int) -> Limits:
    """Measured here and now, on two threads; printed."""
    shape = Shape(min(users, MOST_USERS), items, dim)
    with two_threads():
        return said(shape.rates(alternately(shape.sides(), rounds=ROUNDS, repeats=REPEATS)))


def of_memory(items: int = 20_000) -> Limits:
    """For what multiplies nothing; printed."""
    with two_threads():
        taken = alternately({COPY: copy(items)}, rounds=ROUNDS, repeats=REPEATS)
    return said(copied(items, taken[COPY]))


def said(limits: Limits) -> Limits:
    """Printed, once for each set of conditions that it stands beside."""
    print("limits of this machine:", ", ".join(f"{name} {value}" for name, value in limits.items()))
    return limits


@contextmanager
def two_threads() -> Iterator[None]:
    """For torch; afterwards as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)
