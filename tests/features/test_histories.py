from __future__ import annotations

from datetime import date, datetime

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys.config.shop import ShopConfig, Signal
from recsys.features import capped_users, histories, seen_items
from tests.features.rows import Event, events_df, users_df, vocabulary_df

pytestmark = pytest.mark.spark
NEW_YORK = ShopConfig(time_zone="America/New_York")
AFTER_THE_CHANGE = date(2024, 3, 11)  # clocks went forward on the 10th


def test_a_history_holds_the_newest_events_oldest_first_with_ages_in_real_days(
    spark: SparkSession,
) -> None:
    events = events_df(
        spark,
        [
            Event("ana", "tea", datetime(2024, 3, 8, 12)),  # the fourth newest: does not fit
            Event("ana", "pot", datetime(2024, 3, 10, 4), "view", event_id="z"),
            Event(
                "ana", "jam", datetime(2024, 3, 10, 4), event_id="a"
            ),  # the same moment: a before z
            Event("ana", "nut", datetime(2024, 3, 9, 4), "return"),  # returns are no history
            Event("ana", None, datetime(2024, 3, 9, 4), "search"),
            Event("ana", "tea", datetime(2024, 3, 11, 3, 59, 59)),  # a second before midnight there
            Event("ana", "box", datetime(2024, 3, 11, 4)),  # midnight: as_of itself
            Event(None, "tea", datetime(2024, 3, 10, 4)),  # nobody's history
            Event("ben", "nut", datetime(2024, 3, 10, 4), "return"),  # nothing left: no row
        ],
        NEW_YORK.zone,
    )
    users = users_df(
        spark, [("ana", date(2024, 3, 10), "east"), ("ana", date(2024, 3, 11), "west")]
    )
    vocabulary = vocabulary_df(spark, AFTER_THE_CHANGE, ["nut", "tea", "pot", "jam"])

    [ana] = histories(
        events,
        users,
        vocabulary,
        as_of=AFTER_THE_CHANGE,
        shop=NEW_YORK,
        max_history=3,
        max_user_events_90d=9,
    ).collect()

    assert (ana.user_id, ana.segment, ana.is_capped) == ("ana", "east", False)
    assert ana.item_ids == ["jam", "pot", "tea"]
    assert ana.item_nums == [4, 3, 2]
    assert ana.event_types == ["purchase", "view", "purchase"]
    # 2024-03-11T04:00Z is midnight in New York in summer time: whole days of 24 hours before it
    assert ana.ages_days == [1.0, 1.0, float(np.float32(1 / 86400))]


def test_users_above_the_cap_are_marked_and_counted(spark: SparkSession) -> None:
    day = date(2024, 6, 1)
    events = events_df(
        spark,
        [Event("shop", "tea", date(2024, 5, 31))] * 3
        + [Event("ana", "tea", date(2024, 5, 31))] * 2
        + [Event("ana", "tea", date(2024, 3, 2))]  # 91 days before: does not count
        + [Event("ana", "tea", date(2024, 5, 31), "return")],  # no history: does not count
    )
    vocabulary = vocabulary_df(spark, day, ["tea"])

    built = histories(
        events,
        users_df(spark),
        vocabulary,
        as_of=day,
        shop=ShopConfig(),
        max_history=1,
        max_user_events_90d=2,
    ).persist()
    [counted] = capped_users(built, run_date=day, job="j", max_user_events_90d=2).collect()

    assert {row.user_id: row.is_capped for row in built.collect()} == {"shop": True, "ana": False}
    assert (counted.check, counted.subject, counted.value) == ("capped_users", "2024-06-01", 1.0)


def test_signals_say_what_is_seen_and_for_how_long(spark: SparkSession) -> None:
    day = date(2024, 6, 1)
    shop = ShopConfig(
        signals={"view": Signal(seen_days=2), "purchase": Signal(target=True, seen_days=30)}
    )
    events = events_df(
        spark,
        [
            Event("ana", "b", date(2024, 5, 30), "view"),  # 2 days before: seen
            Event("ana", "c", date(2024, 5, 29), "view"),  # 3 days before: forgotten
            Event("ana", "a", date(2024, 5, 2)),  # bought 30 days before: seen
            Event("ana", "a", date(2024, 5, 31)),  # again: once
            Event("ana", "d", date(2024, 5, 1)),  # bought 31 days before: offered again
            Event("ana", "e", date(2024, 6, 1)),  # as_of itself
            Event("ana", "c", date(2024, 5, 31), "cart"),  # seen_days 0: never
            Event("ben", "c", date(2024, 5, 31), "cart"),
        ],
    )
    vocabulary = vocabulary_df(spark, day, ["b", "a", "c", "d", "e"])

    [ana] = seen_items(events, vocabulary, as_of=day, shop=shop).collect()

    assert (ana.user_id, ana.item_nums) == ("ana", [1, 2])
