from __future__ import annotations

from datetime import date, datetime
from math import log, sqrt

import numpy as np
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from recsys.candidates import (
    item_similarity,
    popularity,
    reorder_intervals,
    sequences,
    transitions,
)
from recsys.config.shop import ShopConfig
from recsys.contracts import HISTORIES, VOCABULARIES
from recsys.lake import local_rows, struct_type
from recsys.recommenders import Shop
from recsys.recommenders.repeat_purchase import RepeatPurchase
from tests.features.rows import Event, events_df
from tests.recommenders.worlds import histories as flat_histories

pytestmark = pytest.mark.spark
DAY = date(2024, 6, 1)
SHOP = ShopConfig()
ITEMS = ["tea", "pot", "cup", "jam"]


def vocabulary_df(spark: SparkSession) -> DataFrame:
    return local_rows(
        spark,
        [("item", DAY, name, num) for num, name in enumerate(ITEMS, 1)],
        struct_type(VOCABULARIES),
    )


def histories_df(
    spark: SparkSession, histories: dict[str, list[str]], **segments: str
) -> DataFrame:
    """Items by user, oldest first; a user called robot is capped."""
    rows = [
        (user, DAY, segments.get(user), items, [ITEMS.index(i) + 1 for i in items],
         ["purchase"] * len(items), [1.0] * len(items), user == "robot")
        for user, items in histories.items()
    ]  # fmt: skip
    return local_rows(spark, rows, struct_type(HISTORIES))


def units_df(spark: SparkSession, *units: list[str]) -> DataFrame:
    return local_rows(
        spark, [([ITEMS.index(i) + 1 for i in unit],) for unit in units], "item_nums array<int>"
    )


def by_pair(rows: list[Row], other: str, counted: str) -> dict[tuple[str, str], tuple[float, int]]:
    """Scores to twelve places: what a square root leaves in the last bits is not the point."""
    return {(row.item_id, row[other]): (round(row.score, 12), row[counted]) for row in rows}


def near(score: float) -> float:
    return round(score, 12)


def test_units_are_users_below_the_cap_and_anonymous_visits(spark: SparkSession) -> None:
    histories = histories_df(spark, {"ana": ["tea", "pot", "tea", "cup"], "robot": ["tea", "pot"]})
    events = events_df(
        spark,
        [
            Event(None, "cup", datetime(2024, 5, 31, 10), session_id="s1"),
            Event(None, "jam", datetime(2024, 5, 31, 9), session_id="s1"),  # earlier: comes first
            Event(
                None, "tea", datetime(2024, 5, 31, 8), session_id="s1"
            ),  # the oldest of four: does not fit
            Event(None, "pot", datetime(2024, 5, 31, 11), session_id="s1"),
            Event(None, "pot", datetime(2024, 5, 31, 11), "return", session_id="s1"),  # no history
            Event(None, "pot", datetime(2024, 5, 31, 11)),  # no session: nothing to pair it with
            Event(
                "ana", "jam", datetime(2024, 5, 31, 9), session_id="s2"
            ),  # a user's: counted there
            Event(None, "tea", datetime(2024, 6, 1, 0), session_id="s3"),  # as_of itself
        ],
    )

    units = sequences(
        events, histories, vocabulary_df(spark), as_of=DAY, shop=SHOP, max_user_items=3
    ).collect()

    named = sorted([ITEMS[num - 1] for num in unit.item_nums] for unit in units)
    assert named == [["jam", "cup", "pot"], ["pot", "tea", "cup"]]


def test_similarity_is_cosine_with_shrinkage(spark: SparkSession) -> None:
    units = units_df(
        spark,
        ["tea", "pot"],
        ["pot", "tea", "pot"],  # twice in one unit counts once
        ["tea", "cup"],
        ["jam"],  # with nothing: raises its own count alone
        ["jam", "tea"],
    )

    rows = item_similarity(
        units, vocabulary_df(spark), as_of=DAY, shrinkage=5, neighbours=2
    ).collect()

    assert by_pair(rows, "similar_item_id", "num_users") == {
        ("tea", "pot"): (near(2 / (sqrt(4 * 2) + 5)), 2),
        ("tea", "cup"): (
            near(1 / (sqrt(4 * 1) + 5)),
            1,
        ),  # jam: 1 / (sqrt(4 * 2) + 5), third of two
        ("pot", "tea"): (near(2 / (sqrt(4 * 2) + 5)), 2),
        ("cup", "tea"): (near(1 / (sqrt(4 * 1) + 5)), 1),
        ("jam", "tea"): (near(1 / (sqrt(4 * 2) + 5)), 1),
    }
    assert {row.as_of for row in rows} == {DAY}
    assert {(row.item_num, row.similar_item_num) for row in rows if row.item_id == "tea"} == {
        (1, 2),
        (1, 3),
    }


def test_transitions_weigh_gaps_and_are_normalised_by_degrees(spark: SparkSession) -> None:
    units = units_df(spark, ["tea", "pot", "cup"], ["tea", "tea", "pot"], ["jam"])

    rows = transitions(
        units, vocabulary_df(spark), as_of=DAY, gaps=2, shrinkage=1.5, neighbours=5
    ).collect()

    # tea -> pot: 1 and (1 + 1/2); tea -> cup: 1/2; pot -> cup: 1; tea -> tea does not count
    out_tea, out_pot, in_pot, in_cup = 3.0, 1.0, 2.5, 1.5
    assert by_pair(rows, "next_item_id", "num_steps") == {
        ("tea", "pot"): (near(2.5 / (sqrt(out_tea * in_pot) + 1.5)), 3),
        ("tea", "cup"): (near(0.5 / (sqrt(out_tea * in_cup) + 1.5)), 1),
        ("pot", "cup"): (near(1 / (sqrt(out_pot * in_cup) + 1.5)), 1),
    }


def test_popularity_counts_buyers_once_in_the_shop_and_in_their_segment(
    spark: SparkSession,
) -> None:
    histories = histories_df(
        spark,
        {"ana": ["tea"], "ben": ["tea"], "cem": ["tea"], "robot": ["tea"]},
        ana="north",
        ben="south",
        cem="",
    )
    events = events_df(
        spark,
        [
            Event("ana", "tea", date(2024, 5, 31)),
            Event("ana", "tea", date(2024, 5, 30)),  # again: once
            Event("ana", "pot", date(2024, 5, 30)),
            Event("ben", "pot", date(2024, 3, 3)),  # 90 days before: counts
            Event("ben", "cup", date(2024, 3, 2)),  # 91: not
            Event("ben", "jam", date(2024, 5, 31), "view"),  # no purchase
            Event("cem", "jam", date(2024, 5, 31)),  # an empty segment is none
            Event("robot", "cup", date(2024, 5, 31)),  # capped
            Event(None, "tea", date(2024, 5, 31), session_id="s1"),
            Event("ana", "cup", date(2024, 6, 1)),  # as_of itself
        ],
    )

    rows = popularity(
        events, histories, vocabulary_df(spark), as_of=DAY, shop=SHOP, days=90
    ).collect()

    assert sorted(
        (row.segment, row.rank, row.item_id, row.num_users, row.score) for row in rows
    ) == [
        ("", 1, "tea", 2, 0.5),  # ana and the visit, of ana, ben, cem and the visit
        ("", 2, "pot", 2, 0.5),  # as many, a larger number
        ("", 3, "jam", 1, 0.25),
        ("north", 1, "tea", 1, 1.0),
        ("north", 2, "pot", 1, 1.0),
        ("south", 1, "pot", 1, 1.0),
    ]


def test_a_shop_without_pairs_has_none(spark: SparkSession) -> None:
    units = units_df(spark, ["tea"], ["jam"])
    vocabulary = vocabulary_df(spark)
    assert item_similarity(units, vocabulary, as_of=DAY, shrinkage=5, neighbours=5).count() == 0
    assert transitions(units, vocabulary, as_of=DAY, gaps=5, shrinkage=1, neighbours=5).count() == 0


def test_an_items_interval_leans_on_the_shop_where_few_took_it_again(spark: SparkSession) -> None:
    """Ana's tea is of days 20, 10 and 2; two lines of one visit are one purchase; views do not count."""
    rows = [
        ("ana", ["tea", "tea", "tea", "tea", "pot"], [20.0, 10.0, 9.9, 2.0, 1.0], ["purchase"] * 5, False),
        ("ben", ["tea", "cup"], [5.0, 4.0], ["purchase", "view"], False),
        ("robot", ["jam", "jam"], [9.0, 1.0], ["purchase"] * 2, True),
    ]  # fmt: skip
    histories = local_rows(
        spark,
        [
            (user, DAY, None, items, [ITEMS.index(i) + 1 for i in items], types, ages, capped)
            for user, items, ages, types, capped in rows
        ],
        struct_type(HISTORIES),
    )

    made = reorder_intervals(histories, vocabulary_df(spark), as_of=DAY, shop=SHOP)
    found = {row.item_id: row for row in made.collect()}

    assert {name: (row.num_users, row.num_again) for name, row in found.items()} == {
        "tea": (2, 2), "pot": (1, 0),
    }  # fmt: skip
    # Of the shop's five purchases two were taken up again, ten and (from the newer line) 7.9 days later.
    shop_again, shop_mean = 2 / 5, (log(10) + log(7.9)) / 2
    assert found["tea"].share_again == pytest.approx((2 + 5 * shop_again) / (4 + 5))
    assert found["pot"].share_again == pytest.approx(5 * shop_again / (1 + 5))
    assert log(found["pot"].median_days) == pytest.approx(shop_mean, rel=1e-5)
    assert found["tea"].log_spread == pytest.approx(0.1179, rel=1e-2)
    assert found["tea"].as_of == DAY and found["tea"].item_num == 1


def test_intervals_of_a_shop_are_those_of_the_recommender(spark: SparkSession) -> None:
    """One arithmetic, on Spark and in one process."""
    rng = np.random.default_rng(3)
    nums = [rng.integers(1, 5, 30).tolist() for _ in range(40)]
    ages = [np.sort(rng.uniform(0.5, 90, 30))[::-1].astype(np.float32).tolist() for _ in nums]
    histories = local_rows(
        spark,
        [
            (f"u{n}", DAY, None, [ITEMS[i - 1] for i in items], items, ["purchase"] * 30, ages[n], False)
            for n, items in enumerate(nums)
        ],
        struct_type(HISTORIES),
    )  # fmt: skip

    made = reorder_intervals(histories, vocabulary_df(spark), as_of=DAY, shop=SHOP)
    rows = sorted(made.collect(), key=lambda row: row.item_num)

    days = [[-age for age in of_user] for of_user in ages]
    learned = RepeatPurchase().fit(Shop(4, flat_histories(nums, days), as_of=0.0)).learned
    np.testing.assert_allclose([row.share_again for row in rows], learned.again[1:], rtol=1e-5)
    np.testing.assert_allclose(
        np.log([row.median_days for row in rows]), learned.log_days[1:], rtol=1e-4
    )
    np.testing.assert_allclose([row.log_spread for row in rows], learned.spread[1:], rtol=1e-3)
