from __future__ import annotations

from datetime import date

import pytest
from pyspark.sql import SparkSession

from recsys.features import item_features
from tests.features.rows import Event, events_df, items_df, vocabulary_df

pytestmark = pytest.mark.spark
DAY = date(2024, 6, 1)


def test_every_item_of_the_vocabulary_has_its_place_in_price_and_popularity(
    spark: SparkSession,
) -> None:
    events = events_df(
        spark,
        [
            Event("ana", "soap", date(2024, 5, 31)),
            Event("ana", "soap", date(2024, 5, 30)),  # the same buyer: once
            Event("ben", "soap", date(2024, 5, 4)),
            Event(None, "soap", date(2024, 5, 30), session_id="i7"),  # an anonymous visit buys, too
            Event(
                "ana", "tea", date(2024, 4, 20), unit_price="7"
            ),  # in the 28 days before the last 28
            Event("ben", "tea", date(2024, 4, 6), unit_price="8"),  # 56 days before: still there
            Event("cem", "tea", date(2024, 4, 5), unit_price="9"),  # 57 days before: not
            Event("dan", "gel", date(2024, 5, 30), "view"),  # looks, does not buy
        ],
    )
    items = items_df(
        spark,
        [
            ("soap", date(2024, 1, 1), "bath", "3"),
            ("soap", date(2024, 6, 1), "bath", "99"),  # tomorrow's price
            ("gel", date(2024, 1, 1), "bath", "2"),
            ("mat", date(2024, 1, 1), "bath", "3"),  # as dear as soap: neither is cheaper
            (
                "rug",
                date(2024, 1, 1),
                "bath",
                None,
            ),  # no price at all: no position, and not counted
            ("tea", date(2024, 1, 1), None, None),  # no list price: the last one paid
            ("pot", date(2024, 1, 1), None, "5"),
        ],
    )
    vocabulary = vocabulary_df(spark, DAY, ["soap", "tea", "gel", "mat", "rug", "pot"])

    rows = {
        row.item_id: row for row in item_features(events, items, vocabulary, as_of=DAY).collect()
    }

    assert set(rows) == {"soap", "tea", "gel", "mat", "rug", "pot"}
    assert {name: row.num_users_28d for name, row in rows.items() if row.num_users_28d} == {
        "soap": 3
    }
    assert (rows["soap"].popularity_28d, rows["tea"].popularity_28d) == (1.0, 0.0)
    assert (rows["soap"].popularity_trend, rows["pot"].popularity_trend) == (
        2.0,
        0.0,
    )  # log2(4 / 1), log2(1)
    assert rows["tea"].popularity_trend == pytest.approx(-1.584962500721156)  # log2(1 / 3)
    assert rows["gel"].price_position == 0.0
    assert rows["soap"].price_position == rows["mat"].price_position == pytest.approx(1 / 3)
    assert rows["rug"].price_position is None
    assert (rows["tea"].price, rows["tea"].price_position, rows["pot"].price_position) == (
        7,
        0.5,
        0.0,
    )
    assert (rows["mat"].num_events_90d, rows["mat"].amount_90d, rows["mat"].age_days) == (
        0,
        0.0,
        None,
    )
