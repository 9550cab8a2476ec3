"""What is counted alike for users and for items: events, purchases, returns and money over windows of days."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys.contracts import WINDOWS_DAYS
from recsys.lake.as_of import buyer, days_before, events_before

LONGEST_WINDOW_DAYS = max(WINDOWS_DAYS)


def activity_before(events: DataFrame, as_of: date) -> DataFrame:
    """Events before ``as_of`` with ``days`` before it, ``amount`` (refunds negative), ``units``, and ``buyer``.

    A buyer is a user, or the session of somebody anonymous; null where there is neither. Amounts and units
    stay decimals, whose sums do not depend on the order of the rows.
    """
    units = F.coalesce(F.col("quantity"), F.lit(1).cast("decimal(18,3)"))
    price = F.coalesce(F.col("unit_price"), F.lit(0).cast("decimal(18,4)"))
    sign = (
        F.when(F.col("event_type") == "return", -1)
        .when(F.col("event_type") == "purchase", 1)
        .otherwise(0)
    )
    return events_before(events, as_of).select(
        "user_id", "item_id", "event_type", "event_ts", "event_id", "unit_price",
        days_before(as_of).alias("days"),
        units.alias("units"),
        (sign.cast("decimal(2,0)") * units * price).cast("decimal(34,7)").alias("amount"),
        buyer().alias("buyer"),
        F.concat(F.col("source"), F.lit(" "), F.col("session_id")).alias("session"),
    )  # fmt: skip


def within(days: int) -> Column:
    """The event lies in the window of ``days`` days before as_of."""
    return F.col("days").between(1, days)


def counts() -> list[Column]:
    """The columns that every feature table has, in the contract's order, then recency and the return rate."""
    is_purchase, is_return = F.col("event_type") == "purchase", F.col("event_type") == "return"
    columns = []
    for days in WINDOWS_DAYS:
        columns += [
            F.count_if(within(days)).alias(f"num_events_{days}d"),
            F.count_if(within(days) & is_purchase).alias(f"num_purchases_{days}d"),
            F.count_if(within(days) & is_return).alias(f"num_returns_{days}d"),
            F.coalesce(F.sum(F.when(within(days), F.col("amount"))), F.lit(0))
            .cast("double")
            .alias(f"amount_{days}d"),
        ]
    bought = _units(is_purchase)
    returned = F.coalesce(_units(is_return), F.lit(0))
    return [
        *columns,
        F.min("days").alias("days_since_last_event"),
        F.min(F.when(is_purchase, F.col("days"))).alias("days_since_last_purchase"),
        F.max("days").alias("age_days"),
        # least() passes over a null: without anything bought there is no rate, not a rate of 1.
        F.when(
            bought > 0, F.least(F.lit(1.0), returned.cast("double") / bought.cast("double"))
        ).alias("return_rate_90d"),
    ]


def _units(which: Column) -> Column:
    """Units in the longest window; null where there were none."""
    return F.sum(F.when(within(LONGEST_WINDOW_DAYS) & which, F.col("units")))
