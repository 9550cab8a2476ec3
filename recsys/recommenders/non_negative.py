"""Non-negative factorisation: users and items as sums of parts.

Shape suffixes: U users, B users of a batch, D parts, N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from recsys.recommenders.histories import by_recency, times, whether_had
from recsys.recommenders.kept import Kept
from recsys.recommenders.shop import Floats, Scores, Shop, Users

_FOLD_IN_SWEEPS = 20


@dataclass(frozen=True)
class Parts:
    items: Floats
    """(N, D), not negative; zeros for an item that nobody had."""


@dataclass
class NonNegative(Kept[Parts]):
    """Least squares over all cells by hierarchical alternating updates (Cichocki & Phan, 2009, algorithm 2).

    As with ``Factorisation`` a user's parts are solved from the history that he is asked with.
    """

    parts: int = 64
    sweeps: int = 30
    penalty: float = 0.1
    """On the sum of squares of both sides' parts."""
    decay: float = 0.8

    name: ClassVar[str] = "non_negative"
    about: ClassVar[str] = (
        "non-negative factorisation: users as sums of tastes, tastes as sums of items"
    )
    learns = Parts

    def fit(self, shop: Shop) -> Self:
        had = whether_had(shop.histories, shop.num_items)
        turned = csr_array(had.T)
        drawn = np.random.default_rng(shop.seed)
        items = drawn.uniform(size=(shop.width, self.parts)) * _mean_part(had, self.parts)
        items[np.diff(turned.indptr) == 0] = 0.0
        users = np.full((had.shape[0], self.parts), _mean_part(had, self.parts))
        for _ in range(self.sweeps):
            self._improve(users, had @ items, items.T @ items)
            self._improve(items, turned @ users, users.T @ users)
        self.learned = Parts(items)
        return self

    def scores(self, users: Users) -> Scores:
        items = self.learned.items
        weights = by_recency(users.histories, len(items), self.decay).astype(np.float64)
        found = np.full((len(users), items.shape[1]), 1.0)
        wanted, squares = weights @ items, items.T @ items
        for _ in range(_FOLD_IN_SWEEPS):
            self._improve(found, wanted, squares)
        return times(found, np.ascontiguousarray(items.T)).astype(np.float32)

    def _improve(self, rows: Floats, wanted: Floats, squares: Floats) -> None:
        """One part after the other, in place. Sums run along a row alone: no row's result depends on another."""
        for part in range(squares.shape[0]):
            step = wanted[:, part] - (rows * squares[part]).sum(axis=1)
            step -= self.penalty * rows[:, part]
            improved = rows[:, part] + step / (squares[part, part] + self.penalty)
            rows[:, part] = np.maximum(improved, 0.0)


def _mean_part(had: csr_array, parts: int) -> float:
    """What each part of a cell's factors would be if all cells were alike."""
    cells = max(had.shape[0] * had.shape[1], 1)
    return float(np.sqrt(had.nnz / cells / parts))
