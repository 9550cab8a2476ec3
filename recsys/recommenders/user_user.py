"""What users with similar histories had near what both had.

Shape suffixes: U users, B users of a batch, T events of all users, N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from recsys.recommenders.histories import (
    both_ways,
    by_recency,
    dense,
    favouring_late,
    fill,
    known,
    scaled_columns,
    single,
)
from recsys.recommenders.kept import Kept
from recsys.recommenders.shop import Floats, Histories, Ints, Scores, Shop, Users

_CELLS = 4_000_000
"""Of (B, U) at a time: 32 MB."""


@dataclass(frozen=True)
class Neighbours:
    rarity: Floats
    """(N,)"""
    events: csr_array
    """(N, T) float32: which events are of an item, by what they say for its user."""
    near: csr_array
    """(T, N) float32: what the same user had near an event, by distance and by how late it comes in histories."""
    rows: Ints
    """(T,) the user of each event."""
    fill: Scores
    """(N,)"""


@dataclass
class UserUser(Kept[Neighbours]):
    """Nearest neighbours by what histories share, rare items counting more; and in them what lies near a shared item.

    Similar are users by the product of their histories, not by its cosine: the many items of a long history are no
    reason against it. In each of the ``neighbours`` most similar users every shared item is a place to look from: what
    lies d places after it counts ``fade ** (d - 1)``, what lies before it ``before`` times that (as in STAN: Garg et
    al., SIGIR 2019), times the weight of the item in the asking user's history, times the neighbour's similarity to the
    power ``sharpness``.
    """

    neighbours: int = 200
    decay: float = 0.7
    fade: float = 0.7
    before: float = 0.2
    window: int = 10
    newest: int = 20
    """Of the asking user's events; older ones would count less than a thousandth, and cost as much."""
    sharpness: float = 0.3
    """Above 0: 1 as similar as they are, less for neighbours that speak more alike."""
    late_power: float = 1.5
    """How much items count that come late in histories: see ``histories.lateness``."""

    name: ClassVar[str] = "user_user"
    about: ClassVar[str] = "what users with a similar history had next to what both had"
    learns = Neighbours

    def fit(self, shop: Shop) -> Self:
        histories = known(shop.histories, shop.num_items)
        rarity = _rarity(histories, shop.width)
        count = len(histories.item_nums)
        cells = histories.item_nums, np.arange(count)
        said = rarity[histories.item_nums]
        self.learned = Neighbours(
            rarity=rarity,
            events=single(csr_array((said, cells), shape=(shop.width, count))),
            near=favouring_late(self._near(histories, shop.width), histories, self.late_power),
            rows=histories.rows,
            fill=fill(shop),
        )
        return self

    def scores(self, users: Users) -> Scores:
        num_users = int(self.learned.rows.max(initial=-1)) + 1
        step = max(1, _CELLS // max(num_users, 1))
        found = np.empty((len(users), len(self.learned.fill)), dtype=np.float32)
        for start in range(0, len(users), step):
            some = users.slice(start, start + step)
            found[start : start + step] = self._scores(some, num_users)
        return found

    def _scores(self, users: Users, num_users: int) -> Scores:
        learned = self.learned
        asked = by_recency(users.histories, len(learned.fill), self.decay, self.newest)
        shared = csr_array(single(scaled_columns(asked, learned.rarity)) @ learned.events)
        shared.sort_indices()
        asking = np.repeat(np.arange(len(users)), np.diff(shared.indptr))
        cells = asking * num_users + learned.rows[shared.indices]
        similar = np.bincount(cells, weights=shared.data, minlength=len(users) * num_users)
        similar = similar.reshape(len(users), num_users)
        fitted = (users.user_nums > 0) & (users.user_nums <= num_users)
        similar[np.flatnonzero(fitted), users.user_nums[fitted] - 1] = 0.0
        if self.neighbours < num_users:
            least = -np.partition(-similar, self.neighbours - 1, axis=1)[:, self.neighbours - 1]
            similar[similar < least[:, None]] = 0.0
        shared.data *= (similar.ravel()[cells] ** self.sharpness).astype(np.float32)
        shared.eliminate_zeros()
        return dense(shared @ learned.near) + learned.fill

    def _near(self, histories: Histories, width: int) -> csr_array:
        """(T, N)"""
        events, others, weights = both_ways(
            histories, most=self.window, fade=self.fade, backwards=self.before
        )
        cells = events, histories.item_nums[others]
        near = csr_array((weights, cells), shape=(len(histories.item_nums), width))
        near.sum_duplicates()
        return near


def _rarity(histories: Histories, width: int) -> Floats:
    """(N,) the logarithm of how many users there are per event of an item."""
    counts = np.bincount(histories.item_nums, minlength=width)
    found: Floats = np.log1p(len(histories) / np.maximum(counts, 1))
    return found
