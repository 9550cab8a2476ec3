"""What a user is due to take again.

Shape suffixes: N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys.candidates.reorders import HORIZON_DAYS, LEAN, Pairs, Reorders, Sums, pairs_of
from recsys.errors import MissingInput
from recsys.recommenders.histories import days_of, dense, fill, known, single
from recsys.recommenders.kept import Kept
from recsys.recommenders.shop import Floats, Histories, Scores, Shop, Users


@dataclass(frozen=True)
class Intervals:
    again: Floats
    log_days: Floats
    spread: Floats
    """(N,) each: ``Reorders``."""
    as_of: NDArray[np.float64]
    """(1,)"""
    fill: Scores
    """(N,)"""


@dataclass
class RepeatPurchase(Kept[Intervals]):
    """The chance that a user takes an item again soon after the cut-off: ``candidates.reorders``."""

    horizon_days: float = HORIZON_DAYS
    lean: float = LEAN

    name: ClassVar[str] = "repeat_purchase"
    about: ClassVar[str] = "what the user is due to take again, by each item's re-order intervals"
    learns = Intervals

    def fit(self, shop: Shop) -> Self:
        _, as_of = days_of(shop, self.name)
        sums = Sums.of(_pairs(known(shop.histories, shop.num_items)), shop.width)
        found = Reorders.of(sums, lean=self.lean, horizon_days=self.horizon_days)
        self.learned = Intervals(
            again=found.again,
            log_days=found.log_days,
            spread=found.spread,
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
        pairs = _pairs(known(users.histories, len(learned.fill) - 1))
        chances = Reorders(learned.again, learned.log_days, learned.spread).chances(
            pairs, today=float(learned.as_of[0]), lean=self.lean, horizon_days=self.horizon_days
        )
        cells = pairs.users, pairs.item_nums
        due = csr_array((chances, cells), shape=(len(users), len(learned.fill)))
        return dense(single(due)) + learned.fill


def _pairs(histories: Histories) -> Pairs:
    """Of what was taken: between two looks at a page there is no interval."""
    taken = histories.targets()
    assert taken.days is not None  # who asks has looked
    return pairs_of(taken.rows, taken.item_nums, taken.days)
