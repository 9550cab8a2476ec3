"""What a user did before a day."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.contracts import USER_FEATURES
from recsys.features.activity import LONGEST_WINDOW_DAYS, activity_before, counts, within
from recsys.lake import apply_contract
from recsys.lake.as_of import known_before


def user_features(events: DataFrame, users: DataFrame, *, as_of: date) -> DataFrame:
    """One row per user with an event in the 90 days before ``as_of``; others are absent, not zero-filled.

    Recency and age look at all days before ``as_of``. The return rate is null for who bought nothing.
    """
    recent = within(LONGEST_WINDOW_DAYS)
    bought = recent & (F.col("event_type") == "purchase")
    features = (
        activity_before(events, as_of)
        .where(F.col("user_id").isNotNull())
        .groupBy("user_id")
        .agg(
            *counts(),
            # Sets of one user's 90 days are small; two count-distincts would copy every event three times.
            F.size(F.collect_set(F.when(bought, F.col("item_id"))))
            .cast("bigint")
            .alias("num_items_90d"),
            F.size(F.collect_set(F.when(recent, F.col("session"))))
            .cast("bigint")
            .alias("num_sessions_90d"),
        )
        .where(F.col(f"num_events_{LONGEST_WINDOW_DAYS}d") > 0)
        .join(known_before(users, "user_id", as_of).select("user_id", "segment"), "user_id", "left")
        .withColumn("as_of", F.lit(as_of))
    )
    return apply_contract(features, USER_FEATURES)
