"""Numbers back to ids, for the tables that people read."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.contracts import TableContract
from recsys.lake import apply_contract


def num_items(vocabulary: DataFrame) -> int:
    """The highest item number of a vocabulary; 0 where it is empty."""
    row = vocabulary.where("kind = 'item'").agg(F.max("num").alias("num_items")).first()
    return int(row["num_items"] or 0) if row else 0


def named_pairs(
    pairs: DataFrame, vocabulary: DataFrame, contract: TableContract, *, as_of: date, other: str
) -> DataFrame:
    """(item_num, other_num, score, num_units) as the rows of ``contract``, whose second item is ``other``."""
    items = F.broadcast(vocabulary.where("kind = 'item'").select("id", "num"))
    named = (
        pairs.join(
            items.select(F.col("id").alias("item_id"), F.col("num").alias("item_num")), "item_num"
        )
        .withColumnRenamed("other_num", f"{other}_num")
        .join(
            items.select(F.col("id").alias(f"{other}_id"), F.col("num").alias(f"{other}_num")),
            f"{other}_num",
        )
        .withColumnRenamed("num_units", "num_users")
        .withColumn("as_of", F.lit(as_of))
    )
    return apply_contract(named, contract)
