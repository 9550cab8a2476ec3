"""The tables as of a day: what "before as_of" means for events and for what was known, and who counts as a buyer."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def events_before(events: DataFrame, as_of: date) -> DataFrame:
    """The events of the days strictly before ``as_of``."""
    return events.where(F.col("event_date") < F.lit(as_of))


def days_before(as_of: date) -> Column:
    """Whole days from an event's day to ``as_of``; 1 is the day before. A window of n days is 1 to n."""
    return F.datediff(F.lit(as_of), F.col("event_date"))


def instant(as_of: date, zone: ZoneInfo) -> datetime:
    """The moment in UTC at which ``as_of`` begins in the shop's zone.

    Where a clock change skips midnight it is the moment of the change; where midnight comes twice, the first.
    """
    return datetime(as_of.year, as_of.month, as_of.day, tzinfo=zone).astimezone(UTC)


def known_before(rows: DataFrame, key: str, as_of: date) -> DataFrame:
    """For each ``key`` what ``items`` or ``users`` said last before ``as_of``, column by column.

    A null says nothing: what was said of it before holds. Of the rows of one day the last by
    (source, source_file) wins, so that the answer is always the same.
    """
    order = ("valid_from", "source", "source_file")
    facts = [name for name in rows.columns if name != key and name not in order]
    newest = [
        F.max_by(name, F.when(F.col(name).isNotNull(), F.struct(*order))).alias(name)
        for name in facts
    ]
    return rows.where(F.col("valid_from") < F.lit(as_of)).groupBy(key).agg(*newest)


def numbers(vocabulary: DataFrame, kind: str) -> DataFrame:
    """One vocabulary as (item_id, item_num) or (user_id, user_num)."""
    rows = vocabulary.where(F.col("kind") == kind)
    return rows.select(F.col("id").alias(f"{kind}_id"), F.col("num").alias(f"{kind}_num"))


def buyer() -> Column:
    """Who acted: a user, or the session of somebody anonymous; null where there is neither."""
    return F.coalesce(
        F.concat(F.lit("user "), F.col("user_id")),
        F.concat(F.lit("session "), F.col("source"), F.lit(" "), F.col("session_id")),
    )
