"""What makes pairs: the newest events of each user, and each visit of somebody anonymous."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys.config.shop import ShopConfig
from recsys.lake.as_of import events_before, numbers


def sequences(
    events: DataFrame,
    histories: DataFrame,
    vocabulary: DataFrame,
    *,
    as_of: date,
    shop: ShopConfig,
    max_user_items: int,
) -> DataFrame:
    """One row per unit with ``item_nums`` array<int>, oldest first, at most the newest ``max_user_items``.

    A unit is a user that is not capped, or the session of an anonymous visitor. ``histories`` and
    ``vocabulary`` are those of ``as_of``; a user has no more events than histories keeps.
    """
    users = histories.where(~F.col("is_capped")).select(
        F.slice(
            "item_nums", -F.least(F.size("item_nums"), F.lit(max_user_items)), max_user_items
        ).alias("item_nums")
    )
    newest_first = Window.partitionBy("source", "session_id").orderBy(
        F.desc("event_ts"), F.desc("event_id")
    )
    sessions = (
        events_before(events, as_of)
        .where(F.col("event_type").isin(*shop.event_types("history")))
        .where("user_id IS NULL AND session_id IS NOT NULL AND item_id IS NOT NULL")
        .select("source", "session_id", "item_id", "event_ts", "event_id")
        .withColumn("place", -F.row_number().over(newest_first))
        .where(F.col("place") >= -max_user_items)
        .join(F.broadcast(numbers(vocabulary, "item")), "item_id")
        .groupBy("source", "session_id")
        .agg(F.array_sort(F.collect_list(F.struct("place", "item_num"))).alias("places"))
        .select(F.col("places.item_num").alias("item_nums"))
    )
    return users.unionByName(sessions)
