"""Who is measured in a window, and what they went on to buy."""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.lake.as_of import events_before, numbers
from recsys.scoring.spark import INPUT, users_to_score

TARGET_COLUMNS = ("target_nums", "num_targets", "first_nums", "num_first")

MANY, MARGIN = 10_000, 1.1
"""Of so many evenly spread hashes a part differs from its share by less than the margin: ten standard deviations."""


def targets_of_window(
    events: DataFrame, items: DataFrame, *, cut_off: date, days: int, types: tuple[str, ...]
) -> DataFrame:
    """One row per user with a target event in the ``days`` days from ``cut_off`` on.

    ``items`` has (item_id, item_num) of the vocabulary at the cut-off. ``target_nums`` and ``first_nums``
    are the distinct items that have a number, ascending; ``num_targets`` and ``num_first`` count all of
    them, those outside the vocabulary too. First are items that the user never had before the cut-off.
    """
    acts = events.where(
        F.col("event_type").isin(*types)
        & F.col("user_id").isNotNull()
        & F.col("item_id").isNotNull()
    )
    end = cut_off + timedelta(days=days)
    in_window = F.col("event_date") >= F.lit(cut_off)
    # One pass: per user and item, whether it was taken in the window, and whether before.
    taken = (
        events_before(acts, end)
        .groupBy("user_id", "item_id")
        .agg(F.max(in_window).alias("in_window"), F.max(~in_window).alias("before"))
        .where("in_window")
    )
    num, first = F.col("item_num"), ~F.col("before")
    return (
        taken.join(F.broadcast(items), "item_id", "left")
        .groupBy("user_id")
        .agg(
            F.array_sort(F.collect_list(num)).alias("target_nums"),  # leaves out nulls
            F.count(F.lit(1)).alias("num_targets"),
            F.array_sort(F.collect_list(F.when(first, num))).alias("first_nums"),
            F.count_if(first).alias("num_first"),
        )
    )


def measured_users(
    lake: Lake, config: RecsysConfig, cut_off: date, *, numbered: bool = False
) -> DataFrame:
    """Users with a target in the window from ``cut_off`` on and a history before it.

    ``sample_order`` is a hash of (user id, seed), ``smallest`` takes those with the smallest.

    Users without a history get the popular list from every recommender alike, so they are left out:
    they would only dilute the differences. Capped users are in: they get lists too. ``numbered`` is that of
    ``users_to_score``.
    """
    items = numbers(lake.vocabulary(cut_off), "item")
    targets = targets_of_window(
        lake.read(contracts.EVENTS),
        items,
        cut_off=cut_off,
        days=config.evaluation.window_days,
        types=config.shop.event_types("target"),
    )
    users = (
        users_to_score(
            lake,
            cut_off,
            exclude_seen=config.shop.exclude_seen,
            numbered=numbered,
            returned_days=config.rules.returned_days,
        )
        .where(F.size("item_nums") > 0)
        .join(targets, "user_id")
    )
    order = F.xxhash64(F.col("user_id"), F.lit(config.evaluation.seed))
    return users.withColumn("sample_order", order).select(*INPUT, *TARGET_COLUMNS, "sample_order")


def smallest(users: DataFrame, most: int) -> DataFrame:
    """At most so many of ``measured_users``, those with the smallest hashes; ``users`` is read up to three times."""
    count = users.count()
    if count <= most:
        return users
    some = users
    if most >= MANY and (share := MARGIN * most / count) < 1:
        # Hashes are spread evenly: a few more than are wanted lie below this one, and they alone meet in one place.
        some = users.where(F.col("sample_order") < int((share - 0.5) * 2.0**64))
    ordered = some.select("sample_order").orderBy("sample_order").offset(most).limit(1)
    # An aggregate, since Spark takes what is first in order by bringing all before it to the driver.
    [beyond] = ordered.agg(F.min("sample_order").alias("hash")).collect()
    return some if beyond["hash"] is None else some.where(F.col("sample_order") < beyond["hash"])
