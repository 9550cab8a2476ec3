"""What is taken up after an item.

Shape suffixes: N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array

from recsys.recommenders.histories import apart, known
from recsys.recommenders.history_sum import HistorySum
from recsys.recommenders.shop import Histories


def steps(histories: Histories, num_items: int, *, gaps: int) -> csr_array:
    """(N, N) float64: sums of 1 / gap over steps from an item to another one, at most ``gaps`` places later."""
    histories = known(histories, num_items)
    nums = histories.item_nums
    left, taken_up, weights = [], [], []
    for gap, older, newer in apart(histories, gaps):
        is_step = nums[older] != nums[newer]
        left.append(nums[older][is_step])
        taken_up.append(nums[newer][is_step])
        weights.append(np.full(len(left[-1]), 1.0 / gap))
    cells = np.concatenate(left), np.concatenate(taken_up)
    counted = csr_array((np.concatenate(weights), cells), shape=(num_items + 1, num_items + 1))
    counted.sum_duplicates()
    return counted


@dataclass
class Transitions(HistorySum):
    """First order: of the steps from the user's last item, the part that went to each other item."""

    decay: float = 0.0
    late_power: float = 0.0

    name: ClassVar[str] = "transitions"
    about: ClassVar[str] = "what others took up right after the user's last item"

    def _weights(self, histories: Histories, num_items: int) -> csr_array:
        counted = steps(histories, num_items, gaps=1)
        of_item = np.maximum(np.asarray(counted.sum(axis=1)), 1.0)
        counted.data /= np.repeat(of_item, np.diff(counted.indptr))
        return counted
