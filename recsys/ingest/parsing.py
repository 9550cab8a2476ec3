"""Raw text -> typed values; what does not parse becomes null and is told apart from what was empty."""

from __future__ import annotations

import re

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys.ingest.description import SourceDescription

_EPOCHS = {"epoch_seconds": 1, "epoch_millis": 1000}
_YEAR_10000 = 253_402_300_800
"""In seconds; far beyond it Spark fails the query: milliseconds, say, that were described as seconds."""
# Pattern letters of a zone, outside quoted text.
_ZONE_LETTER = re.compile(r"[XxZzVO]")
_QUOTED = re.compile(r"'[^']*'")


def typed(name: str, wanted: str, found: T.DataType, description: SourceDescription) -> Column:
    """The raw column ``name`` as ``wanted``; null where the text is empty or is no such value.

    Times without a zone are the source's; a time that a clock change skips is read as if it had not been
    skipped, and of a time that it repeats the first is taken.
    """
    column = F.col(f"`{name}`")
    if isinstance(found, T.TimestampNTZType):
        return F.to_utc_timestamp(column.cast("timestamp"), description.time_zone)
    if not isinstance(found, T.StringType):
        return column if wanted == found.simpleString() else column.try_cast(wanted)
    text = F.nullif(column, F.lit(""))
    if wanted == "string":
        return text
    text = F.trim(text)
    if wanted == "timestamp":
        return F.coalesce(
            *[_timestamp(text, f, description.time_zone) for f in description.timestamp_formats]
        )
    if wanted == "date":
        return F.coalesce(
            *[F.try_to_timestamp(text, F.lit(f)) for f in description.timestamp_formats]
        ).cast("date")
    return text.try_cast(wanted)


def did_not_parse(name: str, value: Column, found: T.DataType) -> Column:
    """True where there was something and ``value`` is null all the same."""
    column = F.col(f"`{name}`")
    there = F.trim(column) != "" if isinstance(found, T.StringType) else column.isNotNull()
    return F.coalesce(there & value.isNull(), F.lit(False))


def _timestamp(text: Column, format_: str, zone: str) -> Column:
    if format_ in _EPOCHS:
        seconds = text.try_cast("decimal(20,6)") / F.lit(_EPOCHS[format_])
        return F.when(F.abs(seconds) < _YEAR_10000, F.timestamp_seconds(seconds))
    parsed = F.try_to_timestamp(text, F.lit(format_))
    if zone == "UTC" or _ZONE_LETTER.search(_QUOTED.sub("", format_)):
        return parsed
    return F.to_utc_timestamp(parsed, zone)  # the session's zone is UTC: parsed is the wall clock
