"""What a user is due to take again.

Shape suffixes: P pairs of a user and an item, N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import norm

from recsys.errors import MissingInput
from recsys.recommenders.histories import days_of, dense, fill, known, single
from recsys.recommenders.kept import Kept
from recsys.recommenders.shop import Floats, Histories, Ints, Scores, Shop, Users

SAME_VISIT_DAYS = 0.5
"""Lines of one item closer than this are one purchase."""
MIN_SPREAD = 0.1
"""Of log intervals: nobody shops by the clock, however even the few gaps that were seen."""


@dataclass(frozen=True)
class Pairs:
    """Who had which item, and when; P pairs, by user and item."""

    users: Ints
    item_nums: Ints
    newest: Floats
    """(P,) the day of the last purchase."""
    gaps: Floats
    """(P,) how many times it was taken again."""
    log_gaps: Floats
    """(P,) the sum of the logarithms of the days between."""
    squares: Floats
    """(P,) the sum of their squares."""


def pairs_of(histories: Histories) -> Pairs:
    days = histories.days
    assert days is not None  # who asks has looked
    order = np.lexsort((days, histories.item_nums, histories.rows))
    users, items, when = histories.rows[order], histories.item_nums[order], days[order]
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    pair = np.cumsum(starts) - 1
    between = np.diff(when, prepend=0.0)
    again = ~starts & (between > SAME_VISIT_DAYS)
    logs = np.log(between[again])
    count = int(starts.sum())

    def summed(values: Floats) -> Floats:
        return np.bincount(pair[again], weights=values, minlength=count).astype(np.float64)

    newest = np.full(count, -np.inf)
    np.maximum.at(newest, pair, when)
    return Pairs(
        users=users[starts],
        item_nums=items[starts].astype(np.int64),
        newest=newest,
        gaps=summed(np.ones_like(logs)),
        log_gaps=summed(logs),
        squares=summed(logs**2),
    )


@dataclass(frozen=True)
class Intervals:
    again: Floats
    """(N,) the part of an item's purchases after which the same user took it again."""
    log_days: Floats
    """(N,) the mean logarithm of the days between; e to its power is the median interval."""
    spread: Floats
    """(N,) the standard deviation of that logarithm."""
    as_of: NDArray[np.float64]
    """(1,)"""
    fill: Scores
    """(N,)"""


@dataclass
class RepeatPurchase(Kept[Intervals]):
    """The chance that a user takes an item again within ``horizon_days`` after the cut-off, given that it has not come
    by then: ``r (F(t + h) - F(t)) / (1 - r F(t))``, where r is the chance to take it again at all, t the days since the
    last purchase, and F log-normal (a mixture cure model: Farewell, Biometrics 38, 1982).

    An item's figures lean on the shop's as if it had ``lean`` purchases like those of the whole shop; a user's own
    lean on the item's in the same way.
    """

    horizon_days: float = 28.0
    lean: float = 5.0

    name: ClassVar[str] = "repeat_purchase"
    about: ClassVar[str] = "what the user is due to take again, by each item's re-order intervals"
    learns = Intervals

    def fit(self, shop: Shop) -> Self:
        _, as_of = days_of(shop, self.name)
        pairs = pairs_of(known(shop.histories, shop.num_items))

        def by_item(values: Floats) -> Floats:
            found = np.bincount(pairs.item_nums, weights=values, minlength=shop.width)
            return found.astype(np.float64)

        gaps, logs, squares = by_item(pairs.gaps), by_item(pairs.log_gaps), by_item(pairs.squares)
        bought = by_item(np.ones(len(pairs.gaps))) + gaps
        whole = gaps.sum()
        shop_again = whole / max(bought.sum(), 1.0)
        shop_mean = logs.sum() / whole if whole else np.log(self.horizon_days)
        shop_variance = squares.sum() / whole - shop_mean**2 if whole else 1.0
        log_days = (logs + self.lean * shop_mean) / (gaps + self.lean)
        around = squares - 2 * log_days * logs + gaps * log_days**2
        variance = (around + self.lean * shop_variance) / (gaps + self.lean)
        self.learned = Intervals(
            again=(gaps + self.lean * shop_again) / (bought + self.lean),
            log_days=log_days,
            spread=np.maximum(np.sqrt(np.maximum(variance, 0.0)), MIN_SPREAD),
            as_of=np.array([as_of]),
            fill=fill(shop),
        )
        return self

    def scores(self, users: Users) -> Scores:
        learned = self.learned
        if users.histories.days is None:
            raise MissingInput(
                f"{self.name} needs to know when the users that it is asked for bought: their histories have no days"
            )
        pairs = pairs_of(known(users.histories, len(learned.fill) - 1))
        cells = pairs.users, pairs.item_nums
        due = csr_array((self._due(pairs), cells), shape=(len(users), len(learned.fill)))
        return dense(single(due)) + learned.fill

    def _due(self, pairs: Pairs) -> Floats:
        learned, items = self.learned, pairs.item_nums
        again = (self.lean * learned.again[items] + pairs.gaps) / (self.lean + pairs.gaps + 1)
        log_days = self.lean * learned.log_days[items] + pairs.log_gaps
        log_days = log_days / (self.lean + pairs.gaps)
        since = np.maximum(learned.as_of[0] - pairs.newest, SAME_VISIT_DAYS)

        def come_by(days: Floats) -> Floats:
            found: Floats = norm.cdf((np.log(days) - log_days) / learned.spread[items])
            return found

        before = come_by(since)
        due: Floats = again * (come_by(since + self.horizon_days) - before) / (1 - again * before)
        return due
