"""The edges of the windows, day by day."""

from __future__ import annotations

from datetime import date

import pytest
from pyspark.sql import SparkSession

from recsys.features import item_features, user_features
from tests.features.rows import Event, events_df, items_df, users_df, vocabulary_df

pytestmark = pytest.mark.spark
DAY = date(2024, 6, 1)


def test_windows_hold_the_days_before_as_of_and_no_other(spark: SparkSession) -> None:
    events = events_df(
        spark,
        [
            Event("ana", "soap", date(2024, 6, 1), unit_price="1000"),  # as_of itself: would leak
            Event("ana", "soap", date(2024, 5, 31), unit_price="1"),  # 1 day before: in all
            Event("ana", "soap", date(2024, 5, 25), unit_price="2"),  # 7 days before: still in 7d
            Event("ana", "soap", date(2024, 5, 24), unit_price="4"),  # 8 days before: 28d
            Event("ana", "soap", date(2024, 5, 4), unit_price="8"),  # 28 days before: still in 28d
            Event("ana", "soap", date(2024, 5, 3), unit_price="16"),  # 29 days before: 90d
            Event("ana", "soap", date(2024, 3, 3), unit_price="32"),  # 90 days before: still in 90d
            Event("ana", "soap", date(2024, 3, 2), unit_price="64"),  # 91 days before: age alone
            Event("old", "soap", date(2024, 3, 2), unit_price="64"),  # nothing in 90 days: no row
        ],
    )
    vocabulary = vocabulary_df(spark, DAY, ["soap"])

    [user] = user_features(events, users_df(spark), as_of=DAY).collect()
    [item] = item_features(events, items_df(spark), vocabulary, as_of=DAY).collect()

    for row in (user, item):
        assert (row.num_purchases_7d, row.num_purchases_28d, row.num_purchases_90d) == (2, 4, 6)
        assert (row.amount_7d, row.amount_28d, row.amount_90d) == (3.0, 15.0, 63.0)
        assert (row.days_since_last_event, row.days_since_last_purchase, row.age_days) == (1, 1, 91)
    assert user.user_id == "ana"
    assert item.num_users_28d == 1


def test_returns_take_money_back_and_make_a_rate(spark: SparkSession) -> None:
    events = events_df(
        spark,
        [
            Event(
                "ana", "soap", date(2024, 5, 30), quantity="4", unit_price="2.50", session_id="i1"
            ),
            Event("ana", "tea", date(2024, 5, 30), quantity="4", unit_price="1", session_id="i1"),
            Event(
                "ana",
                "soap",
                date(2024, 5, 31),
                "return",
                quantity="2",
                unit_price="2.50",
                session_id="c1",
            ),
            Event(
                "ana", "soap", date(2024, 5, 31), "view", quantity="9", unit_price="9"
            ),  # costs nothing
            Event(
                "ben", "soap", date(2024, 5, 31), "return", quantity="2"
            ),  # bought before our time
            Event("cem", "soap", date(2024, 5, 29), quantity="1"),
            Event(
                "cem", "soap", date(2024, 5, 30), "return", quantity="5"
            ),  # more than was bought: not above 1
        ],
    )
    users = users_df(
        spark,
        [
            ("ana", date(2024, 1, 1), "north"),
            ("ana", date(2024, 5, 31), "south"),  # the latest before as_of
            ("ana", date(2024, 6, 1), "west"),  # known too late
        ],
    )

    by_user = {row.user_id: row for row in user_features(events, users, as_of=DAY).collect()}

    ana = by_user["ana"]
    assert (ana.amount_7d, ana.return_rate_90d, ana.num_returns_7d) == (9.0, 0.25, 1)
    assert (ana.num_items_90d, ana.num_sessions_90d, ana.num_events_7d) == (2, 2, 4)
    assert (ana.segment, by_user["ben"].segment) == ("south", None)
    assert by_user["ben"].return_rate_90d is None
    assert by_user["ben"].days_since_last_purchase is None
    assert by_user["cem"].return_rate_90d == 1.0
