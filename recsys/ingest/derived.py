"""Items and users as the rows of an events source tell about them: one row per day on which they changed."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys.contracts import ITEMS, USERS, TableContract
from recsys.ingest.description import SourceDescription
from recsys.ingest.judged_rows import FACTS, SEGMENT


def items_from_events(accepted: DataFrame, description: SourceDescription) -> DataFrame:
    """What the day's lines say of each item, most often said first; ties to the smaller value.

    A day's row uses that day's lines alone and is valid from that day, so what was known as of a day never
    depends on what came later, nor on how the days were cut into files. Days that say nothing new are left out.
    Returns say what was paid, not what is asked, and are left out.
    """
    said = accepted.where("item_id IS NOT NULL AND event_type <> 'return'")
    facts = {name: F.col(f"{FACTS}.{name}") for name in description.items}
    return _changes_by_day(said, "item_id", facts, ITEMS)


def users_from_events(accepted: DataFrame) -> DataFrame:
    """The segment that a user's rows name, as ``items_from_events`` finds an item's title."""
    said = accepted.where(F.col("user_id").isNotNull() & F.col("attributes")[SEGMENT].isNotNull())
    return _changes_by_day(said, "user_id", {"segment": F.col("attributes")[SEGMENT]}, USERS)


def _changes_by_day(
    said: DataFrame, key: str, facts: dict[str, Column], contract: TableContract
) -> DataFrame:
    by_day = said.groupBy(
        "source", "source_file", key, F.col("event_date").alias("valid_from")
    ).agg(*[F.mode(value, deterministic=True).alias(name) for name, value in facts.items()])
    days = Window.partitionBy("source", "source_file", key).orderBy("valid_from")
    so_far = days.rowsBetween(Window.unboundedPreceding, 0)
    known = by_day.select(
        "source", "source_file", key, "valid_from",
        *[F.last(name, ignorenulls=True).over(so_far).alias(name) for name in facts],
    )  # fmt: skip
    state = F.struct(*facts)
    changed = known.withColumn("_same", F.lag(state).over(days).eqNullSafe(state)).where(
        "NOT _same"
    )
    have = set(changed.columns)
    return changed.select(*[
        (F.col(c.name) if c.name in have else F.lit(None)).cast(c.type).alias(c.name) for c in contract.columns
    ])  # fmt: skip
