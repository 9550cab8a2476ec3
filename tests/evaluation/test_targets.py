from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from recsys.evaluation import targets
from recsys.evaluation.targets import smallest, targets_of_window

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CUT_OFF = date(2024, 6, 1)


@pytest.mark.spark
def test_targets_are_the_windows_purchases_and_first_ones_are_new_to_the_user(
    spark: SparkSession,
) -> None:
    day = timedelta(days=1)
    rows = [
        ("ana", "tea", "purchase", CUT_OFF),  # the first day of the window
        ("ana", "tea", "purchase", CUT_OFF + 6 * day),  # again: one target
        ("ana", "tea", "purchase", CUT_OFF - 300 * day),  # long before: not a first purchase
        ("ana", "cup", "purchase", CUT_OFF + 6 * day),  # the last day
        ("ana", "cup", "view", CUT_OFF - day),  # seen is not bought
        ("ana", "jam", "purchase", CUT_OFF + 7 * day),  # after the window
        ("ana", "pot", "view", CUT_OFF),  # no target type
        ("bob", "new", "purchase", CUT_OFF),  # outside the vocabulary: counted all the same
        ("cem", "tea", "purchase", CUT_OFF - day),  # nothing in the window: absent
        (None, "tea", "purchase", CUT_OFF),  # anonymous
    ]
    events = spark.createDataFrame(
        rows, "user_id string, item_id string, event_type string, event_date date"
    )
    items = spark.createDataFrame(
        [("tea", 1), ("cup", 2), ("jam", 3), ("pot", 4)], "item_id string, item_num int"
    )

    found = targets_of_window(events, items, cut_off=CUT_OFF, days=7, types=("purchase",))

    assert {row.user_id: tuple(row)[1:] for row in found.collect()} == {
        "ana": ([1, 2], 2, [2], 1),
        "bob": ([], 1, [], 1),
    }


@pytest.mark.spark
@pytest.mark.parametrize(
    ("most", "kept"), [(2, ["ben", "cem"]), (3, ["ana", "ben", "cem"]), (9, None)]
)
@pytest.mark.parametrize("many", [1, 10_000])
def test_of_too_many_users_those_with_the_smallest_hashes_are_kept(
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    kept: list[str] | None,
    many: int,
) -> None:
    monkeypatch.setattr(targets, "MANY", many)
    rows = [("ana", 7), ("ben", -(2**62)), ("cem", 0), ("dan", 2**62)]
    users = spark.createDataFrame(rows, "user_id string, sample_order long")

    found = sorted(row.user_id for row in smallest(users, most).collect())

    assert found == (kept or ["ana", "ben", "cem", "dan"])
