"""What every recommender promises, as far as it needs to know of it: add a case and it inherits the suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from recsys.recommenders import Histories, Recommender, Shop, Users
from recsys.recommenders.blend import PARTS, REPEATS, Blend
from recsys.recommenders.content import Content
from recsys.recommenders.factorisation import Factorisation
from recsys.recommenders.item_item import ClassicItemItem, ItemItem
from recsys.recommenders.last_purchases import LastPurchases
from recsys.recommenders.linear_items import LinearItems
from recsys.recommenders.named import recommender
from recsys.recommenders.non_negative import NonNegative
from recsys.recommenders.popularity import Popularity, SegmentPopularity, Trending
from recsys.recommenders.repeat_purchase import RepeatPurchase
from recsys.recommenders.transitions import Transitions
from recsys.recommenders.user_user import UserUser

NUM_USERS = 60
NUM_ITEMS = 32
NEVER_BOUGHT = (31, 32)
"""They have no attributes and no price either: nothing tells the one from the other."""


NETWORKS = ("transformer", "recurrent")
"""Train in processes of their own; ``test_neural`` asks of them what it costs no minutes to ask."""


@dataclass(frozen=True)
class Case:
    make: Callable[[], Recommender]
    spark: bool = False
    cold: bool = False
    """May put an item first that nobody bought."""
    twins_tie: bool = True
    """Items that nothing tells apart get equal scores, to the last bit; else up to what training left to chance."""
    needs: str = ""
    """What it cannot do without, a field of ``Shop``."""


CASES: dict[str, Case] = {
    "popularity": Case(Popularity),
    "popularity_by_segment": Case(SegmentPopularity),
    "trending": Case(Trending, needs="as_of"),
    "last_purchases": Case(LastPurchases),
    "repeat_purchase": Case(RepeatPurchase, needs="as_of"),
    "transitions": Case(Transitions),
    "item_item": Case(ItemItem),
    "item_item_classic": Case(ClassicItemItem),
    "user_user": Case(UserUser),
    "linear_items": Case(LinearItems),
    "linear_items in blocks": Case(lambda: LinearItems(most_in_block=7)),
    "factorisation": Case(lambda: Factorisation(width=8, iterations=3), spark=True, needs="spark"),
    "non_negative": Case(lambda: NonNegative(parts=6)),
    "content": Case(Content, cold=True, needs="attributes"),
    "blend": Case(lambda: Blend({"item_item": ItemItem(), "own": LastPurchases()})),
    "blend as shipped": Case(
        lambda: Blend({n: recommender(n) for n in (*PARTS, *REPEATS) if n not in NETWORKS})
    ),
}


def parameters(cases: dict[str, Case]) -> list[object]:
    """Of pytest, by name."""
    return [
        pytest.param(case, id=name, marks=[pytest.mark.spark] if case.spark else [])
        for name, case in cases.items()
    ]


def small_shop(seed: int = 11) -> Shop:
    """Users of 0 to 14 events; popular and rare items, two never bought; unknown items (number 0) in between."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 15, size=NUM_USERS)
    lengths[:3] = 0, 1, 14
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    count = int(offsets[-1])
    popular = 1.0 / np.arange(1, NUM_ITEMS - 1)
    nums = rng.choice(NUM_ITEMS - 2, size=count, p=popular / popular.sum()) + 1
    nums[rng.random(count) < 0.05] = 0
    rows = np.repeat(np.arange(NUM_USERS), lengths)
    days = rng.uniform(0, 100, size=count)
    days = days[np.lexsort((days, rows))]
    attributes = (rng.random((NUM_ITEMS + 1, 6)) < 0.4).astype(np.float64)
    attributes[[0, *NEVER_BOUGHT]] = 0
    prices = rng.uniform(1, 20, size=NUM_ITEMS + 1)
    prices[[0, *NEVER_BOUGHT]] = np.nan
    return Shop(
        num_items=NUM_ITEMS,
        histories=Histories(offsets, nums.astype(np.int32), days),
        as_of=101.0,
        attributes=csr_array(attributes),
        prices=prices,
        segments=rng.integers(0, 4, size=NUM_USERS),
    )


def nobody(count: int, *, days: bool = True) -> Users:
    """Users without any event, whom the shop does not know."""
    none = np.zeros(0, dtype=np.float64) if days else None
    events = Histories(np.zeros(count + 1, dtype=np.int64), np.zeros(0, dtype=np.int32), none)
    return Users(events, np.zeros(count, dtype=np.int64))


def some(users: Users, rows: list[int]) -> Users:
    chosen = np.array(rows, dtype=np.int64)
    segments = None if users.segments is None else users.segments[chosen]
    return Users(users.histories.take(chosen), users.user_nums[chosen], segments)


def with_unknown_items(events: Histories) -> Histories:
    """The same, and an event of item 0 after every event."""
    days = None if events.days is None else np.repeat(events.days, 2)
    nums = np.repeat(events.item_nums, 2)
    nums[1::2] = 0
    is_target = None if events.is_target is None else np.repeat(events.is_target, 2)
    return Histories(events.offsets * 2, nums, days, is_target)


def frozen(shop: Shop) -> Shop:
    """Whose arrays refuse to be written to."""
    for array in (shop.histories.offsets, shop.histories.item_nums, shop.histories.days):
        if array is not None:
            array.flags.writeable = False
    if shop.attributes is not None:
        for part in (shop.attributes.data, shop.attributes.indices, shop.attributes.indptr):
            part.flags.writeable = False
    if shop.prices is not None:
        shop.prices.flags.writeable = False
    if shop.segments is not None:
        shop.segments.flags.writeable = False
    return shop


def empty_like(shop: Shop) -> Shop:
    """The same shop before anyone bought anything."""
    return replace(shop, histories=nobody(len(shop.histories)).histories)
