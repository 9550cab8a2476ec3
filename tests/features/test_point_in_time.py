"""Events on or after as_of, and what became known then, change nothing: whatever they are, wherever the shop is."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache, reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.config.shop import ShopConfig
from recsys.contracts import EVENT_TYPES
from recsys.features import histories, item_features, seen_items, user_features, vocabularies
from recsys.lake import local_rows
from tests.features.rows import Event, events_df, items_df, users_df, vocabulary_df

pytestmark = pytest.mark.spark

# (zone, as_of, the moment as_of begins, by the tables of that zone)
SHOPS = {
    "utc": ("UTC", date(2024, 6, 1), datetime(2024, 6, 1, 0)),
    "shanghai": ("Asia/Shanghai", date(2024, 6, 1), datetime(2024, 5, 31, 16)),
    "new-york-clocks-go-back": ("America/New_York", date(2024, 11, 4), datetime(2024, 11, 4, 5)),
    "new-york-on-the-day-of-the-change": (
        "America/New_York",
        date(2024, 11, 3),
        datetime(2024, 11, 3, 4),
    ),
}

ids = st.sampled_from(["ana", "ben", "new"])
item_ids = st.sampled_from(["soap", "tea", "pot", "hat"])
later_events = st.lists(
    st.builds(
        lambda user, item, type_, seconds, quantity: (user, item, type_, seconds, str(quantity)),
        st.none() | ids,
        item_ids,
        st.sampled_from(EVENT_TYPES),
        st.sampled_from([0, 1, 3599, 3600, 86_399, 86_400]) | st.integers(0, 40 * 86_400),
        st.integers(1, 50),
    ),
    min_size=1,
    max_size=6,
)
later_days = st.integers(0, 30)


def past(begins: datetime) -> list[Event]:
    """What happened before; the last event a microsecond before as_of begins."""
    return [
        Event("ana", "soap", begins - timedelta(days=40), unit_price="3"),
        Event("ana", "tea", begins - timedelta(days=28, hours=5), "view"),
        Event("ben", "tea", begins - timedelta(days=3), "return", session_id="c1"),
        Event("ben", "soap", begins - timedelta(hours=25), session_id="s1"),
        Event(None, "pot", begins - timedelta(hours=1), session_id="s2"),
        Event("ana", "pot", begins - timedelta(microseconds=1), quantity="2", session_id="s3"),
    ]


def outputs(
    spark: SparkSession, shop: ShopConfig, as_of: date, events: list[Event], known: list[date]
) -> set[tuple[str, str]]:
    """Every row of every feature table, as text, in one Spark action (two with the vocabulary)."""
    all_events = events_df(spark, events, shop.zone)
    items = items_df(spark, [("soap", as_of - timedelta(days=9), "bath", "3")]
                     + [("soap", day, "moved", "99") for day in known])  # fmt: skip
    users = users_df(
        spark,
        [("ana", as_of - timedelta(days=9), "north")] + [("ana", day, "south") for day in known],
    )
    nothing = vocabulary_df(spark, as_of, []).limit(0)
    rows = vocabularies(all_events, items, users, nothing, as_of=as_of).collect()
    vocabulary = local_rows(spark, rows, nothing.schema)
    tables = {
        "user_features": user_features(all_events, users, as_of=as_of),
        "item_features": item_features(all_events, items, vocabulary, as_of=as_of),
        "histories": histories(
            all_events, users, vocabulary, as_of=as_of, shop=shop, max_history=4, max_user_events_90d=2
        ),
        "seen_items": seen_items(all_events, vocabulary, as_of=as_of, shop=shop),
    }  # fmt: skip

    def as_text(name: str, table: DataFrame) -> DataFrame:
        return table.select(F.lit(name).alias("name"), F.to_json(F.struct("*")).alias("row"))

    together = reduce(
        DataFrame.unionByName, [as_text(name, table) for name, table in tables.items()]
    )
    return {("vocabularies", repr(row)) for row in rows} | {
        (row.name, row.row) for row in together.collect()
    }


@pytest.mark.parametrize("shop_name", SHOPS)
def test_what_comes_later_changes_nothing(spark: SparkSession, shop_name: str) -> None:
    check_what_comes_later(spark, shop_name, examples=3)


@pytest.mark.slow
@pytest.mark.parametrize("shop_name", SHOPS)
def test_what_comes_later_changes_nothing_in_many_worlds(
    spark: SparkSession, shop_name: str
) -> None:
    check_what_comes_later(spark, shop_name, examples=60)


def check_what_comes_later(spark: SparkSession, shop_name: str, examples: int) -> None:
    zone, as_of, begins = SHOPS[shop_name]
    shop = ShopConfig(time_zone=zone)

    @cache
    def without() -> set[tuple[str, str]]:
        return outputs(spark, shop, as_of, past(begins), [])

    @settings(max_examples=examples)
    @given(later_events, later_days)
    def check(later: list[tuple[str | None, str, str, int, str]], days: int) -> None:
        added = [
            Event(
                user,
                item,
                begins + timedelta(seconds=seconds),
                type_,
                quantity=quantity,
                session_id="s3",
            )
            for user, item, type_, seconds, quantity in later
        ]
        with_later = outputs(
            spark, shop, as_of, past(begins) + added, [as_of + timedelta(days=days)]
        )
        assert with_later == without()

    check()
    # The guard can fail: the last event before as_of is seen, in every table.
    shorter = outputs(spark, shop, as_of, past(begins)[:-1], [])
    assert {name for name, _ in without() - shorter} == {
        "user_features", "item_features", "histories", "seen_items"
    }  # fmt: skip
    assert begins.replace(tzinfo=UTC).astimezone(shop.zone).date() == as_of
