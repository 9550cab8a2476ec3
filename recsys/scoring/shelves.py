"""What is offered where no user is known: similar items beside an item, popular items by segment."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from recsys import contracts
from recsys.lake import apply_contract, struct_type
from recsys.records import Recipe
from recsys.scoring.kit import Kit
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.users import UserBatch

POPULAR = Entry(Recipe(name="popularity", popularity=1.0))


def similar_items(
    similarity: DataFrame, allowed_items: DataFrame, *, as_of: date, n: int
) -> DataFrame:
    """The ``n`` most similar allowed items of each item; ties to the smaller item number.

    ``similarity`` is item_similarity of the day; ``allowed_items`` has a column ``similar_item_id``.
    """
    best_first = Window.partitionBy("item_id").orderBy(F.desc("score"), F.asc("similar_item_num"))
    ranked = (
        similarity.join(allowed_items, "similar_item_id", "left_semi")
        .withColumn("rank", F.row_number().over(best_first))
        .where(F.col("rank") <= n)
        .withColumn("as_of", F.lit(as_of))
    )
    return apply_contract(ranked, contracts.SIMILAR_ITEMS)


def allowed_items(spark: SparkSession, kit: Kit) -> DataFrame:
    """The items that no mask hides, as column ``similar_item_id``."""
    ids = kit.item_ids.filter(pa.array(np.asarray(kit.allowed)))
    return spark.createDataFrame(pa.table({"similar_item_id": ids}))


def popular_items(spark: SparkSession, kit: Kit, rules: Rules, *, as_of: date, n: int) -> DataFrame:
    """What a user without a history is offered, by segment: the same scorer, the same rules."""
    lists = Scorer(kit, rules).lists(_strangers(len(kit.segments)), POPULAR, n)
    segments = pa.array(kit.segments, pa.string()).take(pa.array(lists.rows))
    table = pa.table(
        {
            "segment": segments,
            "as_of": pa.array([as_of] * len(lists.rows), pa.date32()),
            "rank": pa.array(lists.ranks.astype(np.int32)),
            "item_id": kit.item_ids.take(pa.array(lists.item_nums)),
            "score": pa.array(lists.scores.astype(np.float64)),
        }
    )
    bought = table.filter(pa.compute.greater(table.column("score"), 0))
    schema = struct_type(contracts.POPULAR_ITEMS)
    return spark.createDataFrame(bought, schema=schema)


def _strangers(segments: int) -> UserBatch:
    """One user without a history in each segment."""
    nothing = np.zeros(segments + 1, dtype=np.int64)
    return UserBatch(
        nothing, np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0), np.zeros(0, bool),
        nothing, np.zeros(0, np.int32), nothing, np.zeros(0, np.int32),
        np.arange(segments, dtype=np.int32), np.zeros(segments, np.int64),
    )  # fmt: skip
