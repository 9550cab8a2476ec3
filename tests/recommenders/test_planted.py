"""Each recommender finds the structure that it is for; beside it one that cannot, so that the floor says something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from recsys.recommenders import Recommender
from recsys.recommenders.content import Content
from recsys.recommenders.factorisation import Factorisation
from recsys.recommenders.item_item import ItemItem
from recsys.recommenders.last_purchases import LastPurchases
from recsys.recommenders.linear_items import LinearItems
from recsys.recommenders.non_negative import NonNegative
from recsys.recommenders.popularity import Popularity, SegmentPopularity, Trending
from recsys.recommenders.repeat_purchase import RepeatPurchase
from recsys.recommenders.transitions import Transitions
from recsys.recommenders.user_user import UserUser
from tests.recommenders.worlds import (
    World,
    chains,
    cold_items,
    favourites,
    groups,
    re_orders,
    segments,
    trend,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Planted:
    world: Callable[[], World]
    finds: Callable[[], Recommender]
    fails: Callable[[], Recommender]
    k: int
    floor: float
    """Hit rate at k of the one that finds it; the other one stays below half of it."""


PLANTED: dict[str, Planted] = {
    "successors by transitions": Planted(chains, Transitions, Popularity, 1, 0.9),
    "successors by item-item": Planted(chains, ItemItem, Popularity, 3, 0.9),
    "successors by user-user": Planted(chains, UserUser, Popularity, 3, 0.9),
    "successors by linear items": Planted(chains, LinearItems, Popularity, 3, 0.9),
    "groups by item-item": Planted(groups, ItemItem, Popularity, 10, 0.9),
    "groups by user-user": Planted(groups, UserUser, Popularity, 10, 0.9),
    "groups by linear items": Planted(groups, LinearItems, Popularity, 10, 0.9),
    "groups by linear items in blocks": Planted(
        groups, lambda: LinearItems(most_in_block=30), Popularity, 10, 0.9
    ),
    "groups by non-negative parts": Planted(
        groups, lambda: NonNegative(parts=10), Popularity, 10, 0.9
    ),
    "cold items by content": Planted(cold_items, Content, ItemItem, 1, 0.9),
    "re-orders by intervals": Planted(
        re_orders, lambda: RepeatPurchase(horizon_days=2), LastPurchases, 1, 0.8
    ),
    "a trend by recency": Planted(trend, Trending, Popularity, 10, 0.9),
    "segments by their popularity": Planted(segments, SegmentPopularity, Popularity, 10, 0.9),
    "favourites by last purchases": Planted(favourites, LastPurchases, ItemItem, 1, 0.9),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_what_is_planted_is_found_by_the_right_kind_alone(planted: Planted) -> None:
    world = planted.world()

    found = world.hits(planted.finds().fit(world.shop), planted.k)
    missed = world.hits(planted.fails().fit(world.shop), planted.k)

    assert found >= planted.floor
    assert missed < planted.floor / 2


@pytest.mark.spark
def test_groups_are_found_by_factors(spark: SparkSession) -> None:
    world = groups()
    shop = replace(world.shop, spark=spark)

    found = world.hits(Factorisation(width=12, iterations=6).fit(shop), 10)

    assert found >= 0.9
