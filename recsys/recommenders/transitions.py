"""What is taken up after an item.

Shape suffixes: N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array

from recsys.recommenders.histories import by_recency, dense, fill, known, single
from recsys.recommenders.kept import Kept
from recsys.recommenders.shop import Histories, Scores, Shop, Users


def steps(histories: Histories, num_items: int, *, gaps: int) -> csr_array:
    """(N, N) float64: sums of 1 / gap over steps from an item to another one, at most ``gaps`` places later."""
    histories = known(histories, num_items)
    nums, rows = histories.item_nums, histories.rows
    left, taken_up, weights = [], [], []
    for gap in range(1, gaps + 1):
        is_step = (rows[gap:] == rows[:-gap]) & (nums[gap:] != nums[:-gap])
        left.append(nums[:-gap][is_step])
        taken_up.append(nums[gap:][is_step])
        weights.append(np.full(len(left[-1]), 1.0 / gap))
    cells = np.concatenate(left), np.concatenate(taken_up)
    counted = csr_array((np.concatenate(weights), cells), shape=(num_items + 1, num_items + 1))
    counted.sum_duplicates()
    return counted


@dataclass(frozen=True)
class NextItems:
    shares: csr_array
    """(N, N) float32: of the steps from an item, the part that went to another one."""
    fill: Scores
    """(N,)"""


@dataclass
class Transitions(Kept[NextItems]):
    """First order: of the steps from the user's last item, the part that went to each other item."""

    name: ClassVar[str] = "transitions"
    about: ClassVar[str] = "what others took up right after the user's last item"
    learns = NextItems

    def fit(self, shop: Shop) -> Transitions:
        counted = steps(shop.histories, shop.num_items, gaps=1)
        of_item = np.maximum(np.asarray(counted.sum(axis=1)), 1.0)
        counted.data /= np.repeat(of_item, np.diff(counted.indptr))
        self.learned = NextItems(single(counted), fill(shop))
        return self

    def scores(self, users: Users) -> Scores:
        newest = by_recency(users.histories, len(self.learned.fill), decay=0.0)
        return dense(newest @ self.learned.shares) + self.learned.fill
