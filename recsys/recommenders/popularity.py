"""What is bought most: by all, by those of a segment, lately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from recsys.recommenders.histories import best_share, days_of, event_counts
from recsys.recommenders.kept import Kept
from recsys.recommenders.shop import Floats, Scores, Shop, Users


@dataclass(frozen=True)
class Shares:
    """One score per item."""

    shares: Scores
    """(N,), 0 to 1."""


@dataclass
class Popularity(Kept[Shares]):
    """Counts of events, as parts of the best seller's."""

    name: ClassVar[str] = "popularity"
    about: ClassVar[str] = "what is bought most often, the same for everyone"
    learns = Shares

    def fit(self, shop: Shop) -> Self:
        self.learned = Shares(best_share(event_counts(shop, self._weights(shop))))
        return self

    def scores(self, users: Users) -> Scores:
        return np.tile(self.learned.shares, (len(users), 1))

    def _weights(self, shop: Shop) -> Floats | None:
        """(T,) what the events count; None: one each."""
        return None


@dataclass
class Trending(Popularity):
    """Popularity in which an event counts half as much every ``half_life_days``."""

    half_life_days: float = 14.0

    name: ClassVar[str] = "trending"
    about: ClassVar[str] = "what is bought most often of late, the same for everyone"

    def _weights(self, shop: Shop) -> Floats:
        days, as_of = days_of(shop, self.name)
        weights: Floats = np.exp2((days - as_of) / self.half_life_days)
        return weights


@dataclass(frozen=True)
class SegmentShares:
    shares: Scores
    """(segments + 1, N); row 0, of users without a segment, is the whole shop's."""


@dataclass
class SegmentPopularity(Kept[SegmentShares]):
    """Popularity within the user's segment; a segment leans on the whole shop as if ``lean`` of its events were the
    shop's, so a small one hardly differs from it."""

    lean: float = 200.0

    name: ClassVar[str] = "popularity_by_segment"
    about: ClassVar[str] = "what is bought most often by users of the same segment"
    learns = SegmentShares

    def fit(self, shop: Shop) -> Self:
        segments = _segments(shop)
        everyone = event_counts(shop)
        of_shop = everyone / max(everyone.sum(), 1.0)
        shares = [best_share(everyone)]
        for segment in range(1, int(segments.max(initial=0)) + 1):
            members = segments[shop.histories.rows] == segment
            counts = event_counts(shop, members.astype(np.float64))
            shares.append(best_share(counts + self.lean * of_shop))
        self.learned = SegmentShares(np.stack(shares))
        return self

    def scores(self, users: Users) -> Scores:
        shares = self.learned.shares
        if users.segments is None:
            return np.tile(shares[0], (len(users), 1))
        known = (users.segments > 0) & (users.segments < len(shares))
        found: Scores = shares[np.where(known, users.segments, 0)]
        return found


def _segments(shop: Shop) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Of a shop without any, everyone is without: then this is popularity."""
    if shop.segments is None:
        return np.zeros(len(shop.histories), dtype=np.int64)
    return shop.segments
