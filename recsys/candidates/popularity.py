"""What sells, in the whole shop and by segment."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys.config.shop import ShopConfig
from recsys.contracts import POPULARITY
from recsys.lake import apply_contract
from recsys.lake.as_of import buyer, days_before, numbers

WHOLE_SHOP = ""


def popularity(
    events: DataFrame,
    histories: DataFrame,
    vocabulary: DataFrame,
    *,
    as_of: date,
    shop: ShopConfig,
    days: int,
) -> DataFrame:
    """Buyers of each item in the ``days`` days before ``as_of``; ``score`` is their share of all buyers.

    A buyer is a user (capped ones left out) or the session of an anonymous visitor, counted once per item,
    by events of a target type. Segment '' is the whole shop, anonymous buyers included; a segment counts its
    users alone. Ranks start at 1, ties go to the smaller item number.
    """
    segments = histories.select("user_id", "segment", "is_capped")
    bought = (
        events.where(days_before(as_of).between(1, days))
        .where(F.col("event_type").isin(*shop.event_types("target")))
        .where("item_id IS NOT NULL")
        .join(segments, "user_id", "left")
        .where(~F.coalesce("is_capped", F.lit(False)))
        .select("item_id", "segment", buyer().alias("buyer"))
        .where("buyer IS NOT NULL")
        .distinct()
    )
    # coalesce: a user without a segment, or with an empty one, counts for the whole shop alone
    own = F.when(F.coalesce("segment", F.lit(WHOLE_SHOP)) != WHOLE_SHOP, F.col("segment"))
    by_segment = bought.withColumn(
        "segment", F.explode(F.array_compact(F.array(F.lit(WHOLE_SHOP), own)))
    )
    all_buyers = by_segment.groupBy("segment").agg(F.count_distinct("buyer").alias("all_buyers"))
    best_first = Window.partitionBy("segment").orderBy(F.desc("num_users"), F.asc("item_num"))
    ranked = (
        by_segment.groupBy("segment", "item_id")
        .agg(F.count(F.lit(1)).alias("num_users"))
        .join(F.broadcast(numbers(vocabulary, "item")), "item_id")
        .join(F.broadcast(all_buyers), "segment")
        .withColumn("score", F.col("num_users") / F.col("all_buyers"))
        .withColumn("rank", F.row_number().over(best_first))
        .withColumn("as_of", F.lit(as_of))
    )
    return apply_contract(ranked, POPULARITY)
