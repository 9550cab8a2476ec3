"""A user's own items, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from recsys.recommenders.histories import best_share, by_recency, dense, event_counts
from recsys.recommenders.kept import Kept
from recsys.recommenders.popularity import Shares
from recsys.recommenders.shop import Scores, Shop, Users

FILL = 1e-4
"""What the best seller counts beside what a recommender found: places that it has nothing for go to best sellers,
not to small numbers."""


@dataclass
class LastPurchases(Kept[Shares]):
    """``decay ** places to newest``, summed over the user's events of an item."""

    decay: float = 0.9

    name: ClassVar[str] = "last_purchases"
    about: ClassVar[str] = "what the user had before, the latest and most frequent first"
    learns = Shares

    def fit(self, shop: Shop) -> LastPurchases:
        self.learned = Shares(best_share(event_counts(shop)) * np.float32(FILL))
        return self

    def scores(self, users: Users) -> Scores:
        fill = self.learned.shares
        return dense(by_recency(users.histories, len(fill), self.decay)) + fill
