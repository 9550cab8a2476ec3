"""Numbers back to ids, for the tables that people read."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.contracts import TableContract
from recsys.lake import apply_contract
from recsys.lake.as_of import numbers


def num_items(vocabulary: DataFrame) -> int:
    """The highest item number of a vocabulary; 0 where it is empty."""
    row = numbers(vocabulary, "item").agg(F.max("item_num").alias("num_items")).first()
    return int(row["num_items"] or 0) if row else 0


def named_pairs(
    pairs: DataFrame,
    vocabulary: DataFrame,
    contract: TableContract,
    *,
    as_of: date,
    other: str,
    counted: str,
) -> DataFrame:
    """(item_num, other_num, score, count) as the rows of ``contract``.

    ``other`` is what the contract calls the second item, ``counted`` its column for the count.
    """
    items = F.broadcast(numbers(vocabulary, "item"))
    others = items.withColumnsRenamed({"item_id": f"{other}_id", "item_num": f"{other}_num"})
    named = (
        pairs.withColumnsRenamed({"other_num": f"{other}_num", "count": counted})
        .join(items, "item_num")
        .join(others, f"{other}_num")
        .withColumn("as_of", F.lit(as_of))
    )
    return apply_contract(named, contract)
