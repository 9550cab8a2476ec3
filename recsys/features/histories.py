"""A user's past items, oldest first."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys.config.shop import ShopConfig
from recsys.contracts import HISTORIES
from recsys.lake import apply_contract
from recsys.lake.as_of import days_before, events_before, instant, known_before, numbers

CAP_DAYS = 90  # part of the name candidates.max_user_events_90d
MICROSECONDS_PER_DAY = 86_400_000_000


def histories(
    events: DataFrame,
    users: DataFrame,
    vocabulary: DataFrame,
    *,
    as_of: date,
    shop: ShopConfig,
    max_history: int,
    max_user_events_90d: int,
) -> DataFrame:
    """One row per user with an event of a history type before ``as_of``; the newest ``max_history`` events.

    Events of one moment are ordered by event_id. Ages are float32 days up to the moment ``as_of`` begins in
    the shop's zone. ``is_capped`` marks users with more than ``max_user_events_90d`` history events in the
    90 days before ``as_of``.
    """
    past = (
        events_before(events, as_of)
        .where(F.col("event_type").isin(*shop.event_types("history")))
        .where(F.col("user_id").isNotNull() & F.col("item_id").isNotNull())
        .select(
            "user_id",
            "item_id",
            "event_type",
            "event_ts",
            "event_id",
            days_before(as_of).alias("days"),
        )
    )
    newest_first = Window.partitionBy("user_id").orderBy(F.desc("event_ts"), F.desc("event_id"))
    recent = F.count_if(F.col("days") <= CAP_DAYS).over(Window.partitionBy("user_id"))
    kept = (
        past.withColumn("recent_events", recent)
        .withColumn("place", -F.row_number().over(newest_first))
        .where(F.col("place") >= -max_history)
        .join(numbers(vocabulary, "item"), "item_id")
    )
    begins = int(instant(as_of, shop.zone).timestamp()) * 1_000_000
    age_days = ((F.lit(begins) - F.unix_micros("event_ts")) / MICROSECONDS_PER_DAY).cast("float")
    place = F.struct("place", "item_id", "item_num", "event_type", age_days.alias("age_days"))
    users_with_history = (
        kept.groupBy("user_id")
        .agg(
            F.array_sort(F.collect_list(place)).alias("places"),
            F.max("recent_events").alias("recent_events"),
        )
        .join(known_before(users, "user_id", as_of).select("user_id", "segment"), "user_id", "left")
        .select(
            "user_id",
            F.lit(as_of).alias("as_of"),
            "segment",
            F.col("places.item_id").alias("item_ids"),
            F.col("places.item_num").alias("item_nums"),
            F.col("places.event_type").alias("event_types"),
            F.col("places.age_days").alias("ages_days"),
            (F.col("recent_events") > max_user_events_90d).alias("is_capped"),
        )
    )
    return apply_contract(users_with_history, HISTORIES)
