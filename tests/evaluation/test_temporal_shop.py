"""A shop before a cut-off: what is known of it, who is measured on what, and nothing of what comes later."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.config.rules import RulesConfig
from recsys.config.sections import CandidatesConfig
from recsys.config.shop import ShopConfig
from recsys.errors import MissingInput
from recsys.evaluation.splits import Window
from recsys.evaluation.targets import measured_users, smallest
from recsys.evaluation.temporal_shop import TemporalShop, days_of_events, sampled, temporal_shop
from recsys.lake import Lake, local_rows, struct_type
from tests.evaluation.shop import RUN_DATE, with_windows, write_shop

CUT_OFF = date(2024, 6, 1)
WINDOW = Window(CUT_OFF, date(2024, 6, 8))

EVENTS = [
    ("ana", "tea", "purchase", -3),
    ("ana", "cup", "purchase", -1),
    ("ana", "pot", "purchase", 0),  # the cut-off's own day is the window's first
    ("ana", "new", "purchase", 6),  # nobody had it before: cold, and counted
    ("ana", "tea", "return", -2),
    ("bob", "tea", "view", -2),
    ("bob", "tea", "purchase", 2),
    ("cem", "pot", "purchase", -9),  # nothing in the window: learned from, not measured
    ("dan", "cup", "purchase", 1),  # nothing before it: not measured
    ("eve", "cup", "purchase", -1),
    ("eve", "cup", "view", -1),
    ("eve", "tea", "view", -1),  # more than two events: capped
    ("eve", "tea", "purchase", 3),
    ("cem", "tea", "purchase", 7),  # after the window
]


def event(number: int, user: str, item: str, kind: str, day: int) -> tuple[Any, ...]:
    at = datetime(2024, 6, 1, 12, number, tzinfo=UTC) + timedelta(days=day)
    return (
        f"e{number:02}", kind, user, item, at, at.date(), None, None, None, None, "shop", "f",
        None, None, None, None, None,
    )  # fmt: skip


def write(lake: Lake, contract: contracts.TableContract, rows: list[tuple[Any, ...]]) -> None:
    df = local_rows(lake.spark, rows, struct_type(contract)).coalesce(1)
    df.write.format("delta").save(lake.path(contract))


@pytest.fixture
def shop_config(config: RecsysConfig) -> RecsysConfig:
    """Seen is left out, what was returned in a week too; three events in 90 days are too many."""
    return config.model_copy(
        update={
            "shop": ShopConfig(exclude_seen=True),
            "rules": RulesConfig(returned_days=7, blocked_items=("pot",)),
            "candidates": CandidatesConfig(max_user_events_90d=2),
        }
    )


@pytest.fixture
def written(lake: Lake) -> Lake:
    write(lake, contracts.EVENTS, [event(n, *row) for n, row in enumerate(EVENTS)])
    item = (None, None, None, None, None, "shop", "f", None)
    items = [
        # item_id, valid_from, title, category, brand, price, …
        ("tea", CUT_OFF - timedelta(days=9), "Green tea", "Food > Hot", "Ours", 2, *item[:3], *item[5:]),
        ("cup", CUT_OFF - timedelta(days=9), "Green cup", "Food", None, None, *item[:3], *item[5:]),
        ("cup", CUT_OFF, "Red cup", "Home", "Ours", 9, *item[:3], *item[5:]),  # said too late
    ]  # fmt: skip
    write(lake, contracts.ITEMS, items)
    segments = {"ana": "gold", "bob": "new"}
    users = [(u, CUT_OFF - timedelta(days=9), s, "shop", "f", None) for u, s in segments.items()]
    write(lake, contracts.USERS, users)
    return lake


def items_of(shop: TemporalShop, nums: np.ndarray[Any, Any]) -> list[str]:
    ids = shop.item_ids.to_pylist()
    return [ids[num] for num in nums.tolist()]


@pytest.mark.spark
def test_what_is_known_of_a_shop_before_the_cut_off(
    written: Lake, shop_config: RecsysConfig
) -> None:
    found = temporal_shop(written, shop_config, WINDOW)

    shop = found.shop
    assert found.user_ids.to_pylist() == ["ana", "bob", "cem", "eve"]
    assert sorted(items_of(found, np.arange(1, shop.num_items + 1))) == ["cup", "pot", "tea"]
    assert shop.histories.lengths.tolist() == [2, 1, 1, 0]  # eve is capped: not learned from
    assert items_of(found, shop.histories.item_nums[:2]) == ["tea", "cup"]  # oldest first
    assert shop.histories.days is not None and shop.as_of == 0
    np.testing.assert_allclose(shop.histories.days[:2], [-2.5, -0.5], atol=2e-3)
    assert shop.segments is not None and shop.segments.tolist() == [1, 2, 0, 0]
    assert shop.exclude_seen
    # bob's only event is a view; eve bought the cup, looked at it again, and at the tea.
    assert shop.histories.is_target is not None
    assert shop.histories.is_target.tolist() == [True, True, False, True]
    assert found.users.histories.is_target is not None
    assert found.users.histories.is_target.tolist() == [True, True, False, True, False, False]

    tea, cup, pot = (found.item_ids.to_pylist().index(item) for item in ("tea", "cup", "pot"))
    assert shop.prices is not None and shop.prices[tea] == 2
    assert np.isnan(shop.prices[[cup, pot]]).all()
    # What two items have: the word green, and the category Food.
    assert shop.attributes is not None
    assert shop.attributes.toarray()[[tea, cup, pot]].tolist() == [[1, 1], [1, 1], [0, 0]]

    assert [found.user_ids[n - 1].as_py() for n in found.users.user_nums] == ["ana", "bob", "eve"]
    assert found.users.histories.lengths.tolist() == [2, 1, 3]
    assert found.targets.counts.tolist() == [2, 1, 1]
    assert items_of(found, found.targets.item_nums) == ["pot", "tea", "tea"]
    assert found.first.counts.tolist() == [2, 1, 1]
    assert found.cold_share == 0.25

    hidden = found.hidden_mask(0, 3)
    assert hidden[:, 0].all() and hidden[:, pot].all()
    # ana bought both and sent the tea back; bob has only looked; eve bought the cup.
    assert hidden[:, [tea, cup]].tolist() == [[True, True], [False, False], [False, True]]
    assert (found.hidden_mask(1, 2) == hidden[1:2]).all()

    assert days_of_events(written) == (date(2024, 5, 23), date(2024, 6, 8))
    with pytest.raises(
        MissingInput, match="nobody to compare on: no user has a history before 2024-05-23"
    ):
        temporal_shop(written, shop_config, Window(date(2024, 5, 23), CUT_OFF))


def test_a_sample_is_of_those_who_are_measured_and_lies_in_every_larger_one() -> None:
    draw = np.random.default_rng(5)
    hashes = draw.integers(-(2**63), 2**63 - 1, 4000)
    has_target = draw.random(4000) < 0.5

    def places(sample: float, most: int = 4000) -> set[int]:
        return set(sampled(hashes, has_target, sample=sample, most=most).tolist())

    assert places(1.0) == set(np.flatnonzero(has_target).tolist())
    assert 150 < len(places(0.1)) < 250
    assert places(0.1) < places(0.3) < places(1.0)
    assert places(1.0, most=50) < places(0.1)


@pytest.mark.spark
def test_who_is_measured_on_what_is_as_in_the_nightly_evaluation(
    lake: Lake, config: RecsysConfig
) -> None:
    """There the tables of the day are read, here everything is made from events."""
    config = with_windows(config, compare_users=25)
    write_shop(lake, config)
    cut_off = config.evaluation.cut_offs(RUN_DATE).measuring

    found = temporal_shop(lake, config, Window(cut_off, RUN_DATE))

    measured = smallest(measured_users(lake, config, cut_off), config.evaluation.compare_users)
    rows = measured.toArrow().sort_by("user_id").to_pylist()
    assert [found.user_ids[n - 1].as_py() for n in found.users.user_nums] == [
        row["user_id"] for row in rows
    ]
    assert found.targets.counts.tolist() == [row["num_targets"] for row in rows]
    assert found.targets.item_nums.tolist() == [num for row in rows for num in row["target_nums"]]
    assert found.first.item_nums.tolist() == [num for row in rows for num in row["first_nums"]]
    assert found.users.histories.item_nums.tolist() == [
        num for row in rows for num in row["item_nums"]
    ]
