"""What "before as_of" means, for events and for what was known; the only place that decides it."""

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
    """For each ``key`` the row of ``items`` or ``users`` with the latest ``valid_from`` before ``as_of``.

    Rows of one day from several sources: the last by (source, source_file) wins, so that it is always the same.
    """
    others = [name for name in rows.columns if name != key]
    newest = F.max_by(F.struct(*others), F.struct("valid_from", "source", "source_file"))
    return (
        rows.where(F.col("valid_from") < F.lit(as_of))
        .groupBy(key)
        .agg(newest.alias("known"))
        .select(key, "known.*")
    )
