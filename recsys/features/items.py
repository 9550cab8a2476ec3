"""What happened to an item before a day."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys.contracts import ITEM_FEATURES
from recsys.features.activity import activity_before, counts, within
from recsys.lake import apply_contract
from recsys.lake.as_of import known_before, numbers

POPULARITY_DAYS = 28  # part of the columns' names


def item_features(
    events: DataFrame, items: DataFrame, vocabulary: DataFrame, *, as_of: date
) -> DataFrame:
    """One row per item of the vocabulary (rows of ``vocabularies`` at version ``as_of``).

    Counts of an item without events are 0, its recency, age and return rate null. The price is the
    catalogue's, or the last one paid where the catalogue has none. Items without a category are compared
    with each other. ``popularity_28d`` is 0 for all when nobody bought anything.
    """
    activity = activity_before(events, as_of).where(F.col("item_id").isNotNull())
    is_purchase = F.col("event_type") == "purchase"
    paid = F.max_by("unit_price", F.when(is_purchase, F.struct("event_ts", "event_id")))
    by_item = activity.groupBy("item_id").agg(*counts(), paid.alias("paid"))

    purchases = activity.where(
        is_purchase & within(2 * POPULARITY_DAYS) & F.col("buyer").isNotNull()
    )
    buyers = (
        purchases.groupBy("item_id", "buyer")
        .agg(
            F.bool_or(within(POPULARITY_DAYS)).alias("now"),
            F.bool_or(~within(POPULARITY_DAYS)).alias("then"),
        )
        .groupBy("item_id")
        .agg(F.count_if("now").alias("num_users_28d"), F.count_if("then").alias("buyers_then"))
    )
    all_buyers = purchases.where(within(POPULARITY_DAYS)).agg(
        F.count_distinct("buyer").alias("all_buyers")
    )

    catalogue = known_before(items, "item_id", as_of).select("item_id", "category", "price")
    zeros: dict[str, bool | float | int | str] = {
        name: 0 for name in by_item.columns if name.startswith(("num_", "amount_"))
    }
    rows = (
        numbers(vocabulary, "item")
        .join(by_item, "item_id", "left")
        .join(buyers, "item_id", "left")
        .join(catalogue, "item_id", "left")
        .crossJoin(F.broadcast(all_buyers))
        .fillna(zeros | {"num_users_28d": 0, "buyers_then": 0})
        .withColumn("price", F.coalesce("price", "paid"))
    )
    by_price = Window.partitionBy("category", F.col("price").isNull()).orderBy("price")
    same_category = Window.partitionBy("category", F.col("price").isNull())
    position = (F.rank().over(by_price) - 1) / F.count(F.lit(1)).over(same_category)
    features = rows.select(
        "*",
        F.lit(as_of).alias("as_of"),
        F.when(F.col("price").isNotNull(), position).alias("price_position"),
        (F.col("num_users_28d") / F.greatest("all_buyers", F.lit(1))).alias("popularity_28d"),
        F.log2((F.col("num_users_28d") + 1) / (F.col("buyers_then") + 1)).alias("popularity_trend"),
    )
    return apply_contract(features, ITEM_FEATURES)
