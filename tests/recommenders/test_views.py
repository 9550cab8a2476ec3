"""A shop that knows views: all are history, purchases alone are what is learned towards."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.recommenders import Histories, Recommender, Shop
from recsys.recommenders import transformer as networks
from recsys.recommenders.blend import Blend, held_out, next_items
from recsys.recommenders.blend_weights import even
from recsys.recommenders.item_item import ItemItem
from recsys.recommenders.last_purchases import LastPurchases
from recsys.recommenders.popularity import Popularity, SegmentPopularity, Trending
from recsys.recommenders.repeat_purchase import RepeatPurchase
from recsys.recommenders.shop import seen_mask

NUM_ITEMS, NUM_USERS = 12, 40
SHOWN, BOUGHT = NUM_ITEMS, 1
"""The one is viewed by everybody and bought by nobody; the other is what most buy."""


def shop(**changes: Any) -> Shop:
    """Everybody looks at ``SHOWN`` every other day, buys ``BOUGHT`` every fourth week, and one more item."""
    rows = []
    for user in range(NUM_USERS):
        views = [(float(day), SHOWN, False) for day in range(0, 100, 2)]
        bought = [(day + 0.5, BOUGHT, True) for day in (10.0, 38.0, 66.0, 94.0)]
        rows.append(sorted([*views, *bought, (50.5, 2 + user % 9, True)]))
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    days, nums, is_target = (np.array(column) for column in zip(*chain(*rows), strict=True))
    events = Histories(offsets, nums.astype(np.int32), days, is_target)
    given: dict[str, Any] = {"as_of": 100.0, "segments": np.arange(NUM_USERS) % 2}
    return Shop(NUM_ITEMS, events, **(given | changes))


@pytest.mark.parametrize(
    "made", [Popularity, Trending, SegmentPopularity, RepeatPurchase, LastPurchases]
)
def test_what_all_look_at_and_nobody_buys_is_last(made: type[Recommender]) -> None:
    world = shop()
    scores = made().fit(world).scores(world.everyone())
    assert (scores[:, 1:].argmax(axis=1) + 1 == BOUGHT).all()
    assert (scores[:, SHOWN] == scores[:, 1:].min(axis=1)).all()


def test_intervals_are_those_between_purchases() -> None:
    learned = RepeatPurchase(lean=0.001).fit(shop()).learned
    assert np.exp(learned.log_days[BOUGHT]) == pytest.approx(28, rel=0.01)


def test_events_say_what_they_are_however_they_are_chosen() -> None:
    events = shop().histories
    assert set(events.targets().item_nums.tolist()) == set(range(1, 11))
    assert events.take(np.array([3, 1])).targets().item_nums.tolist() == [
        1,
        1,
        5,
        1,
        1,
        1,
        1,
        3,
        1,
        1,
    ]
    assert SHOWN not in events.without_newest(2).targets().item_nums
    without = replace(events, is_target=None)
    assert without.targets() is without


@pytest.mark.parametrize("dated", [True, False])
def test_what_is_held_out_is_what_was_bought(dated: bool) -> None:
    """In time: the last days; else the newest purchase, and what was looked at after it is no part of the past."""
    world = shop()
    if not dated:
        world = replace(world, histories=replace(world.histories, days=None))
    earlier, later = held_out(world)
    assert later.item_nums.tolist() == [BOUGHT] * NUM_USERS
    assert next_items(later).tolist() == [BOUGHT] * NUM_USERS
    assert SHOWN in earlier.histories.item_nums
    assert earlier.histories.is_target is not None
    assert earlier.histories.targets().lengths.tolist() == [4] * NUM_USERS
    last = 36 if dated else 48  # views before the cut at day 72, and before the purchase on day 94
    assert (earlier.histories.lengths - 4 == last).all()


def test_of_somebody_who_only_looked_nothing_is_held_out() -> None:
    nums, is_target = np.array([1, 2, 3, 1], dtype=np.int32), np.array([True, False, False, False])
    earlier, later = held_out(Shop(3, Histories(np.array([0, 2, 4]), nums, None, is_target)))
    assert earlier.histories.lengths.tolist() == [0, 2] and later.lengths.tolist() == [1, 0]


def test_the_blend_may_show_what_was_looked_at_and_not_what_was_bought() -> None:
    """Everybody buys what they looked at before: the part that knows it counts, though seen items are left out."""
    draw = np.random.default_rng(4)
    nums = np.concatenate(
        [np.append(two := draw.permutation(60)[:2] + 1, two[0]) for _ in range(300)]
    )
    events = Histories(
        np.arange(0, 901, 3), nums.astype(np.int32), np.tile([1.0, 2.0, 50.0], 300), np.tile([False, False, True], 300)
    )  # fmt: skip
    world = Shop(60, events, as_of=51.0)
    earlier, later = held_out(world)
    parts: dict[str, Recommender] = {"own": OwnItems(), "popularity": Popularity().fit(earlier)}
    blend = Blend(parts).learn(earlier.everyone(), later)

    best = blend.scores(earlier.everyone())[:, 1:].argmax(axis=1) + 1

    assert blend.weights is not None
    learned_CF = blend.weights.values_CF
    assert not np.array_equal(learned_CF, even(len(learned_CF))), (
        "there was something to learn from"
    )
    assert (best == nums[::3]).all()


class OwnItems(ItemItem):
    """The oldest event's item."""

    def scores(self, users: Any) -> Any:
        oldest = users.histories.where(users.histories.places_to_newest == 1)
        found = seen_mask(replace(users, histories=oldest), 61).astype(np.float32)
        found[:, 0] = 0
        return found


def test_a_network_chooses_its_epochs_for_lists_that_hold_what_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    def train(_: object, config: Any, *args: object, **given: object) -> tuple[None, int]:
        said.append(config.exclude_seen)
        return None, 1

    monkeypatch.setattr(networks, "train", train)
    world = shop(work=tmp_path)
    networks.Transformer().fit(world)
    for bought_alone in (None, np.ones_like(world.histories.is_target)):
        events = replace(world.histories, is_target=bought_alone)
        networks.Transformer().fit(replace(world, histories=events))
    assert said == [False, True, True]
