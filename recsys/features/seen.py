"""What counts as seen by a user at a day."""

from __future__ import annotations

from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys.config.shop import ShopConfig
from recsys.contracts import SEEN_ITEMS
from recsys.lake import apply_contract
from recsys.lake.as_of import days_before, events_before, numbers


def seen_items(
    events: DataFrame, vocabulary: DataFrame, *, as_of: date, shop: ShopConfig
) -> DataFrame:
    """One row per user with a seen item: an event within its type's ``seen_days`` before ``as_of``."""
    seen = events_before(events, as_of).where(_is_seen(shop, as_of))
    items = (
        seen.where(F.col("user_id").isNotNull())
        .join(numbers(vocabulary, "item"), "item_id")
        .groupBy("user_id")
        .agg(F.array_sort(F.collect_set("item_num")).alias("item_nums"))
        .withColumn("as_of", F.lit(as_of))
    )
    return apply_contract(items, SEEN_ITEMS)


def _is_seen(shop: ShopConfig, as_of: date) -> Column:
    return reduce(
        Column.__or__,
        [
            (F.col("event_type") == name) & (days_before(as_of) <= signal.seen_days)
            for name, signal in shop.signals.items()
            if signal.seen_days > 0
        ],
        F.lit(False),
    )
