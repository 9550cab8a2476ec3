"""Rows of events, items and users from what a test cares about; the rest is filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

from pyspark.sql import DataFrame, SparkSession

from recsys.contracts import EVENTS, ITEMS, USERS, VOCABULARIES
from recsys.lake import local_rows, struct_type

UTC_ZONE = ZoneInfo("UTC")


@dataclass(frozen=True)
class Event:
    """``at`` is a moment in UTC, or a day: noon of it."""

    user_id: str | None
    item_id: str | None
    at: datetime | date
    event_type: str = "purchase"
    quantity: str = "1"
    unit_price: str | None = "1"
    session_id: str | None = None
    event_id: str = ""


def events_df(spark: SparkSession, events: Sequence[Event], zone: ZoneInfo = UTC_ZONE) -> DataFrame:
    """``event_date`` is the day in ``zone``, by Python's calendar and not by Spark's."""
    rows = []
    for number, event in enumerate(events):
        moment = (
            event.at if isinstance(event.at, datetime) else datetime.combine(event.at, time(12))
        )
        moment = moment.replace(tzinfo=UTC)
        rows.append((
            event.event_id or f"e{number:04}", event.event_type, event.user_id, event.item_id, moment,
            moment.astimezone(zone).date(), Decimal(event.quantity),
            None if event.unit_price is None else Decimal(event.unit_price), event.session_id,
            None, "shop", "file", None, None, None, None, None,
        ))  # fmt: skip
    return local_rows(spark, rows, struct_type(EVENTS))


def items_df(
    spark: SparkSession, items: Sequence[tuple[str, date, str | None, str | None]] = ()
) -> DataFrame:
    """Rows of (item_id, valid_from, category, price)."""
    return local_rows(spark, [
            (item, day, None, category, None, Decimal(price) if price else None, None, None, None,
             "shop", f"file {number}", None)
            for number, (item, day, category, price) in enumerate(items)
        ],
        struct_type(ITEMS),
    )  # fmt: skip


def users_df(spark: SparkSession, users: Sequence[tuple[str, date, str | None]] = ()) -> DataFrame:
    """Rows of (user_id, valid_from, segment)."""
    return local_rows(
        spark,
        [
            (user, day, segment, "shop", f"file {number}", None)
            for number, (user, day, segment) in enumerate(users)
        ],
        struct_type(USERS),
    )


def vocabulary_df(
    spark: SparkSession, version: date, item_ids: Sequence[str], user_ids: Sequence[str] = ()
) -> DataFrame:
    """Numbers from 1 in the order given."""
    rows = [("item", version, id_, num) for num, id_ in enumerate(item_ids, 1)]
    rows += [("user", version, id_, num) for num, id_ in enumerate(user_ids, 1)]
    return local_rows(spark, rows, struct_type(VOCABULARIES))
