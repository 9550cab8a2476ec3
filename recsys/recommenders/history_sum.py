"""Scores that are sums over the history, of what each item of it says for every other item.

Shape suffixes: N catalogue (num_items + 1).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

from scipy.sparse import csr_array

from recsys.recommenders.histories import by_recency, dense, favouring_late, fill, known
from recsys.recommenders.kept import Kept
from recsys.recommenders.shop import Histories, Scores, Shop, Users


@dataclass(frozen=True)
class ItemWeights:
    weights: csr_array
    """(N, N) float32: what an item of the history says for each other item."""
    fill: Scores
    """(N,)"""


@dataclass
class HistorySum(Kept[ItemWeights]):
    """The sum fades with the places back from the newest event; a subclass says how the weights are learned."""

    decay: float = 0.7
    """What an event counts beside the next newer one."""
    late_power: float = 1.5
    """How much items count that come late in histories: see ``histories.lateness``."""

    learns = ItemWeights

    def fit(self, shop: Shop) -> Self:
        histories = known(shop.histories, shop.num_items)
        weights = self._weights(histories, shop.num_items)
        self.learned = ItemWeights(favouring_late(weights, histories, self.late_power), fill(shop))
        return self

    def scores(self, users: Users) -> Scores:
        history = by_recency(users.histories, len(self.learned.fill), self.decay)
        return dense(history @ self.learned.weights) + self.learned.fill

    @abstractmethod
    def _weights(self, histories: Histories, num_items: int) -> csr_array:
        """(N, N), of histories in which all items are known."""
