"""What a user sent back lately, and is not offered again for a while."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.lake.as_of import days_before, numbers

RETURN = "return"
"""The event type."""


def returned_items(
    events: DataFrame, vocabulary: DataFrame, *, as_of: date, days: int
) -> DataFrame:
    """(user_id, hidden_nums): the items of a user's returns in the ``days`` days before ``as_of``, ascending."""
    lately = (F.col("event_type") == RETURN) & days_before(as_of).between(1, days)
    return (
        events.where(lately & F.col("user_id").isNotNull())
        .join(numbers(vocabulary, "item"), "item_id")
        .groupBy("user_id")
        .agg(F.array_sort(F.collect_set("item_num")).alias("hidden_nums"))
    )
