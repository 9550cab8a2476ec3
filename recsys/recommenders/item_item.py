"""What goes together, and what is taken up after what: the strong classic.

Shape suffixes: U users, N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array

from recsys.recommenders.histories import whether_had
from recsys.recommenders.history_sum import HistorySum
from recsys.recommenders.shop import Floats, Histories
from recsys.recommenders.transitions import steps


def damped(counted: csr_array, left: Floats, right: Floats, shrink: float) -> csr_array:
    """``counted / (left * right + shrink)``, left by row and right by column."""
    rows = np.repeat(np.arange(counted.shape[0]), np.diff(counted.indptr))
    values = counted.data / (left[rows] * right[counted.indices] + shrink)
    return csr_array((values, counted.indices, counted.indptr), shape=counted.shape)


def together(histories: Histories, num_items: int) -> csr_array:
    """(N, N) float64: how many users had both; none on the diagonal."""
    had = whether_had(histories, num_items)
    counted = csr_array(had.T @ had)
    counted.setdiag(0.0)
    counted.eliminate_zeros()
    return counted


@dataclass
class ItemItem(HistorySum):
    """Cosine of who had what, with shrinkage, and steps from item to item, both over a history that fades.

    The steps up to ``gaps`` places apart count 1 / gap and are divided by powers of what goes out of the one item and
    into the other. The classic has both powers at a half (``ClassicItemItem``); by default popular followers
    are not punished, which finds more.
    """

    gaps: int = 10
    steps_mix: float = 0.55
    """The part of the steps; the rest is the cosine's."""
    out_power: float = 0.5
    in_power: float = 0.0
    steps_shrink: float = 1.5
    cosine_shrink: float = 5.0

    name: ClassVar[str] = "item_item"
    about: ClassVar[str] = (
        "what goes with the user's last items, and what others took up after them"
    )

    def _weights(self, histories: Histories, num_items: int) -> csr_array:
        by_steps, by_cosine = self._steps(histories, num_items), self._cosine(histories, num_items)
        return csr_array(self.steps_mix * by_steps + (1 - self.steps_mix) * by_cosine)

    def _steps(self, histories: Histories, num_items: int) -> csr_array:
        counted = steps(histories, num_items, gaps=self.gaps)
        going_out, coming_in = counted.sum(axis=1), counted.sum(axis=0)
        left, right = going_out**self.out_power, coming_in**self.in_power
        return damped(counted, left, right, self.steps_shrink)

    def _cosine(self, histories: Histories, num_items: int) -> csr_array:
        users_of = np.sqrt(np.diff(whether_had(histories, num_items).tocsc().indptr))
        both = together(histories, num_items)
        return damped(both, users_of, users_of, self.cosine_shrink)


@dataclass
class ClassicItemItem(ItemItem):
    """With the settings that published comparisons use: the baseline to be above."""

    gaps: int = 5
    steps_mix: float = 0.6
    in_power: float = 0.5
    late_power: float = 0.0

    name: ClassVar[str] = "item_item_classic"
    about: ClassVar[str] = "cosine and steps, popular followers damped: the classic"
