"""Whose events changed between two runs: the change feed of ``events``, net of what was written again unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.config import RecsysConfig
from recsys.contracts import EVENTS
from recsys.lake import Lake
from recsys.scoring.returned import RETURN

READ = ("event_id", "event_type", "user_id", "item_id", "event_ts", "event_date")
"""What lists take from an event; a new price, or a new name of the file, changes none."""

SIGNS = {"insert": 1, "update_postimage": 1, "delete": -1, "update_preimage": -1}


@dataclass(frozen=True)
class Used:
    """The events that a day's lists rest on: those of days before ``before``, in ``version`` of the table."""

    version: int
    before: date


def types_read(config: RecsysConfig) -> tuple[str, ...]:
    """The event types that histories, masks and rules look at."""
    shop = config.shop
    types = set(shop.event_types("history"))
    if shop.exclude_seen:
        types |= {name for name, signal in shop.signals.items() if signal.seen_days > 0}
    if config.rules.returned_days:
        types.add(RETURN)
    return tuple(sorted(types))


def users_with_changes(
    lake: Lake, earlier: Used, now: Used, items: DataFrame, types: Sequence[str]
) -> DataFrame:
    """(user_id): those whose events of ``types`` and ``items`` are not the ones they were, row by row.

    Of the days that ``earlier`` used: the rows that were written since, less those that were taken away. A row that
    went and came again with the same content adds up to nothing, however often its file was rewritten. Of the days
    that only ``now`` uses: all rows that are there. ``items`` has a column ``item_id``.
    """
    # Not what lay there already and the feed of these days: the sum is the same, and an older version of a table is
    # some Spark jobs.
    new_days = F.col("event_date") >= F.lit(earlier.before)
    signed = _read(lake.read(EVENTS, version=now.version), F.lit(1)).where(new_days)
    if now.version > earlier.version:
        feed = (
            lake.spark.read.format("delta")
            .option("readChangeFeed", "true")
            .option("startingVersion", earlier.version + 1)
            .option("endingVersion", now.version)
            .load(lake.path(EVENTS))
        )
        sign = F.create_map(*(F.lit(part) for pair in SIGNS.items() for part in pair))
        signed = signed.unionByName(_read(feed, sign[F.col("_change_type")]).where(~new_days))
    kept = signed.where(
        (F.col("event_date") < F.lit(now.before))
        & F.col("user_id").isNotNull()
        & F.col("event_type").isin(*types)
    ).join(F.broadcast(items), "item_id", "left_semi")
    return (
        kept.groupBy("user_id", F.xxhash64(*READ).alias("content"))
        .agg(F.sum("sign").alias("net"))
        .where("net != 0")
        .select("user_id")
        .distinct()
    )


def _read(events: DataFrame, sign: object) -> DataFrame:
    return events.select(*READ, sign.alias("sign"))  # type: ignore[attr-defined]
