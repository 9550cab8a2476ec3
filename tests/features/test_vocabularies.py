from __future__ import annotations

from datetime import date, datetime

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys.features import vocabularies
from tests.features.rows import Event, events_df, items_df, users_df, vocabulary_df

pytestmark = pytest.mark.spark
DAY = date(2024, 6, 1)


def nums(rows: DataFrame, kind: str) -> dict[str, int]:
    return {row.id: row.num for row in rows.collect() if row.kind == kind}


def test_numbers_follow_the_first_event_and_then_the_id(spark: SparkSession) -> None:
    events = events_df(
        spark,
        [
            Event("ben", "soap", datetime(2024, 5, 2, 9)),
            Event(
                "ana", "tea", datetime(2024, 5, 1, 9)
            ),  # earlier: before soap, though later in the alphabet
            Event("ana", "jam", datetime(2024, 5, 1, 9), "view"),  # the same moment: jam before tea
            Event(None, "nut", datetime(2024, 5, 30, 9), "return"),  # any type, anonymous too
            Event("cem", "new", date(2024, 6, 1)),  # as_of itself: unknown yet
            Event("cem", None, date(2024, 5, 3), "search"),  # a search knows a user and no item
        ],
    )
    items = items_df(
        spark,
        [
            ("box", date(2024, 5, 31), None, None),  # in the catalogue alone: last
            ("hat", date(2024, 6, 1), None, None),  # known from as_of on: absent
            ("tea", date(2024, 1, 1), None, None),  # has events: those count
        ],
    )
    users = users_df(spark, [("dan", date(2024, 1, 1), "north")])
    none = vocabulary_df(spark, DAY, []).limit(0)

    built = vocabularies(events, items, users, none, as_of=DAY).persist()

    assert nums(built, "item") == {"jam": 1, "tea": 2, "soap": 3, "nut": 4, "box": 5}
    assert nums(built, "user") == {"ana": 1, "ben": 2, "cem": 3, "dan": 4}
    assert {row.version for row in built.collect()} == {DAY}


def test_a_number_once_given_stays(spark: SparkSession) -> None:
    events = events_df(
        spark,
        [Event("ana", "old", date(2024, 4, 1)), Event("ana", "a", date(2024, 5, 1)),
         Event("ben", "b", date(2024, 5, 20))],
    )  # fmt: skip
    before = vocabulary_df(
        spark, date(2024, 5, 4), ["a", "gone"], ["ana"]
    )  # gone: its file was taken back
    older = vocabulary_df(
        spark, date(2024, 5, 3), ["gone", "a"], ["ana"]
    )  # not the newest: not looked at
    later = vocabulary_df(
        spark, date(2024, 6, 2), ["b", "a"], ["ben"]
    )  # after as_of: not looked at
    earlier = before.unionByName(older).unionByName(later)

    built = vocabularies(events, items_df(spark), users_df(spark), earlier, as_of=DAY)

    # old happened before a, but came in late: it follows what has a number
    assert nums(built, "item") == {"a": 1, "gone": 2, "old": 3, "b": 4}
    assert nums(built, "user") == {"ana": 1, "ben": 2}


def test_a_version_that_is_built_again_keeps_its_own_numbers(spark: SparkSession) -> None:
    events = events_df(
        spark, [Event("ana", "a", date(2024, 5, 1)), Event("ana", "late", date(2024, 4, 1))]
    )
    itself = vocabulary_df(spark, DAY, ["c", "a"], ["ana"])
    between = vocabulary_df(
        spark, date(2024, 5, 30), ["a", "d"], ["ana"]
    )  # built after it, for a day before it

    built = vocabularies(
        events, items_df(spark), users_df(spark), itself.unionByName(between), as_of=DAY
    ).persist()

    assert nums(built, "item") == {"c": 1, "a": 2, "late": 3, "d": 4}
    again = vocabularies(
        events, items_df(spark), users_df(spark), built.unionByName(between), as_of=DAY
    )
    assert nums(again, "item") == nums(built, "item")
