"""What a user took, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from recsys.recommenders.histories import by_recency, dense, fill
from recsys.recommenders.kept import Kept
from recsys.recommenders.popularity import Shares
from recsys.recommenders.shop import Scores, Shop, Users


@dataclass
class LastPurchases(Kept[Shares]):
    """``decay ** places to newest``, summed over the user's target events of an item."""

    decay: float = 0.9

    name: ClassVar[str] = "last_purchases"
    about: ClassVar[str] = "what the user had before, the latest and most frequent first"
    learns = Shares

    def fit(self, shop: Shop) -> Self:
        self.learned = Shares(fill(shop))
        return self

    def scores(self, users: Users) -> Scores:
        fill = self.learned.shares
        return dense(by_recency(users.histories.targets(), len(fill), self.decay)) + fill
