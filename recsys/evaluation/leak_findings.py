"""What in the tables of a cut-off knows of the days from it on: one query, a row per finding.

The events are passed over once, for the first day of every item and user and the last one before the cut-off; of
what was built, the rows of the cut-off alone are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys import contracts as t
from recsys.config.shop import ShopConfig
from recsys.contracts import TableContract
from recsys.lake.as_of import instant

SIDE, FIRST, NEWEST, SAID = "side", "first_event", "newest_event", "said"
"""An event on the wrong side; something of an item or user whose first event is later; of an event that is newer than
any there is; what was said later."""

ITEM_COLUMNS = {
    t.ITEM_SIMILARITY: ("item_id", "similar_item_id"),
    t.TRANSITIONS: ("item_id", "next_item_id"),
    t.REORDER_INTERVALS: ("item_id",),
    t.POPULARITY: ("item_id",),
}
IDS = {"item": "item_id", "user": "user_id"}
FACTS = {"item": (t.ITEMS, "price"), "user": (t.USERS, "segment")}
"""What features take from the catalogue, or from what is known of users."""

TELLS = {t.ITEM_FEATURES: "item", t.USER_FEATURES: "user", t.HISTORIES: "user"}
HOURS_OF_A_CLOCK_CHANGE = 2
"""A day is not always of 24 hours, and newest events are compared by days: so much is let pass."""

Tables = Mapping[TableContract, DataFrame]


def findings(tables: Tables, days: DataFrame, shop: ShopConfig, cut_off: date) -> DataFrame:
    """(table, column, kind, count, first: (key, found, allowed)), a row for each kind of finding.

    ``tables`` are the observed ones and those built by day, with the rows of whatever days; ``days`` is
    ``first_and_last_days``, and read often. ``found`` is the day that must not be there, ``allowed`` the one that it
    must be before (the cut-off), or not after.
    """
    said = {kind: _said(tables[source], kind, cut_off) for kind, (source, _) in FACTS.items()}
    of_day = {
        table: rows.where(F.col("as_of") == F.lit(cut_off))
        for table, rows in tables.items()
        if "as_of" in rows.columns
    }
    numbers = tables[t.VOCABULARIES]
    found = [
        _wrong_side(tables[t.EVENTS], shop, cut_off),
        _vocabularies(numbers, days, said, cut_off),
        *_candidates(days, of_day, cut_off),
        *_items_of_users(numbers, days, of_day, cut_off),
        *(
            _newer_features(table, days, of_day, cut_off)
            for table in (t.ITEM_FEATURES, t.USER_FEATURES)
        ),
        _newer_histories(days, of_day, cut_off),
        *(_newer_facts(table, kind, said[kind], of_day, cut_off) for table, kind in TELLS.items()),
    ]
    return (
        reduce(DataFrame.unionByName, found)
        .groupBy("table", "column", "kind")
        .agg(
            F.count(F.lit(1)).alias("count"),
            F.min(F.struct("key", "found", "allowed")).alias("first"),
        )
        .orderBy("table", "column", "kind")
    )


def first_and_last_days(events: DataFrame, cut_off: date) -> DataFrame:
    """(of, id, first_day, last_day) of items and users: the first of all, and the last one before the cut-off."""
    whose = F.array(*(F.struct(F.lit(k).alias("of"), F.col(v).alias("id")) for k, v in IDS.items()))
    day = F.col("event_date")
    return (
        events.select(F.explode(whose).alias("whose"), day)
        .where("whose.id IS NOT NULL")
        .groupBy("whose.of", "whose.id")
        .agg(
            F.min(day).alias("first_day"),
            F.max(F.when(day < F.lit(cut_off), day)).alias("last_day"),
        )
    )


def _of(kind: str, days: DataFrame) -> DataFrame:
    return days.where(F.col("of") == kind).select(
        F.col("id").alias(IDS[kind]), "first_day", "last_day"
    )


def _later_items(days: DataFrame, cut_off: date) -> DataFrame:
    """(item_id, first_day) of items whose first event is at or after the cut-off."""
    return _of("item", days).where(F.col("first_day") >= F.lit(cut_off)).drop("last_day")


def _said(source: DataFrame, kind: str, cut_off: date) -> DataFrame:
    """(id, named, held, later): named before the cut-off; the fact that held then; what was said of it since."""
    fact = F.col(FACTS[kind][1])
    before = F.col("valid_from") < F.lit(cut_off)
    order = F.struct("valid_from", "source", "source_file")  # as known_before
    since = F.when(~before & fact.isNotNull(), F.struct(fact.alias("fact"), "valid_from"))
    return source.groupBy(F.col(IDS[kind]).alias("id")).agg(
        F.max(before).alias("named"),
        F.max_by(fact, F.when(before & fact.isNotNull(), order)).alias("held"),
        F.array_sort(F.collect_set(since)).alias("later"),
    )


def _finding(
    rows: DataFrame, table: TableContract, column: Column | str, kind: Column | str, *,
    key: str, found: Column, allowed: Column,
) -> DataFrame:  # fmt: skip
    return rows.select(
        F.lit(table.name).alias("table"),
        (F.lit(column) if isinstance(column, str) else column).alias("column"),
        (F.lit(kind) if isinstance(kind, str) else kind).alias("kind"),
        F.col(key).cast("string").alias("key"),
        found.cast("date").alias("found"),
        allowed.cast("date").alias("allowed"),
    )


def _wrong_side(events: DataFrame, shop: ShopConfig, cut_off: date) -> DataFrame:
    """Events whose day and whose moment are on different sides of the cut-off."""
    begins = F.lit(instant(cut_off, shop.zone))
    day, moment = F.col("event_date"), F.col("event_ts")
    # Written as two ranges, so that Delta passes over files that are on one side with both.
    crossed = events.where(
        ((day < F.lit(cut_off)) & (moment >= begins))
        | ((day >= F.lit(cut_off)) & (moment < begins))
    )
    local = F.to_date(F.from_utc_timestamp(moment, shop.time_zone))
    return _finding(crossed, t.EVENTS, "event_id", SIDE, key="event_id", found=day, allowed=local)


def _vocabularies(
    numbers: DataFrame, days: DataFrame, said: Mapping[str, DataFrame], cut_off: date
) -> DataFrame:
    """Ids with a number that neither an event nor anything else before the cut-off names."""
    older = numbers.where(F.col("version") < F.lit(cut_off)).agg(F.max("version").alias("version"))
    ids = F.col("kind").alias("of"), "id"
    kept = numbers.join(F.broadcast(older), "version").select(*ids)
    named = reduce(
        DataFrame.unionByName,
        [rows.where("named").select(F.lit(kind).alias("of"), "id") for kind, rows in said.items()],
    )
    leaked = (
        numbers.where(F.col("version") == F.lit(cut_off))
        .select(*ids)
        .join(days.where(F.col("first_day") >= F.lit(cut_off)), ["of", "id"])
        .join(kept.unionByName(named), ["of", "id"], "left_anti")
    )
    return _finding(
        leaked, t.VOCABULARIES, F.col("of"), FIRST, key="id",
        found=F.col("first_day"), allowed=F.lit(cut_off),
    )  # fmt: skip


def _candidates(days: DataFrame, of_day: Tables, cut_off: date) -> Iterator[DataFrame]:
    later = _later_items(days, cut_off)
    for table, columns in ITEM_COLUMNS.items():
        named = F.array(
            *(F.struct(F.lit(c).alias("column"), F.col(c).alias("item_id")) for c in columns)
        )
        rows = of_day[table].select(F.explode(named).alias("named")).select("named.*")
        found = rows.join(later, "item_id").distinct()  # few are left by then
        yield _later_ones(found, table, F.col("column"), cut_off)


def _items_of_users(
    numbers: DataFrame, days: DataFrame, of_day: Tables, cut_off: date
) -> Iterator[DataFrame]:
    """Items that users are said to have had before anybody had."""
    later = _later_items(days, cut_off)
    nums = numbers.where((F.col("version") == F.lit(cut_off)) & (F.col("kind") == "item"))
    later_nums = nums.select(F.col("id").alias("item_id"), F.col("num").alias("item_num"))
    had = of_day[t.HISTORIES].select(F.explode("item_ids").alias("item_id"))
    seen = of_day[t.SEEN_ITEMS].select(F.explode("item_nums").alias("item_num"))
    of_histories = had.join(later, "item_id").distinct()
    yield _later_ones(of_histories, t.HISTORIES, "item_ids", cut_off)
    of_seen = seen.join(later_nums.join(later, "item_id"), "item_num").distinct()
    yield _later_ones(of_seen, t.SEEN_ITEMS, "item_nums", cut_off)


def _later_ones(
    rows: DataFrame, table: TableContract, column: Column | str, cut_off: date
) -> DataFrame:
    return _finding(
        rows, table, column, FIRST, key="item_id", found=F.col("first_day"), allowed=F.lit(cut_off)
    )


def _newer_features(
    table: TableContract, days: DataFrame, of_day: Tables, cut_off: date
) -> DataFrame:
    """Features that count an event at or after the cut-off, or one newer than any event before it."""
    column, key = "days_since_last_event", IDS[TELLS[table]]
    rows = of_day[table].select(key, column).join(_of(TELLS[table], days), key, "left")
    newest, least = F.col(column), F.datediff(F.lit(cut_off), F.col("last_day"))
    return _newer(
        rows, table, column, key=key, newest=newest, too_new=newest < least, cut_off=cut_off
    )


def _newer_histories(days: DataFrame, of_day: Tables, cut_off: date) -> DataFrame:
    """Histories with an event at or after the cut-off, or one newer than any event of the user before it."""
    column, age = "ages_days", F.array_min("ages_days")
    # 0 is the moment at which the cut-off begins; the last moment of the day before is of day 1.
    rows = (
        of_day[t.HISTORIES]
        .select("user_id", age.alias("age"), F.ceil(age).cast("int").alias("newest"))
        .join(_of("user", days), "user_id", "left")
    )
    begun = F.datediff(F.lit(cut_off), F.col("last_day")) - 1 - HOURS_OF_A_CLOCK_CHANGE / 24
    return _newer(
        rows, t.HISTORIES, column, key="user_id",
        newest=F.col("newest"), too_new=F.col("age") < begun, cut_off=cut_off,
    )  # fmt: skip


def _newer(
    rows: DataFrame, table: TableContract, column: str, *,
    key: str, newest: Column, too_new: Column, cut_off: date,
) -> DataFrame:  # fmt: skip
    """``newest`` is how many days before the cut-off the newest event is, from 1 on; null without one."""
    only_later = newest.isNotNull() & (F.col("first_day") >= F.lit(cut_off))
    leaked = rows.where((newest < 1) | too_new | only_later)
    return _finding(
        leaked, table, column, F.when(only_later, FIRST).otherwise(NEWEST), key=key,
        found=F.when(only_later, F.col("first_day")).otherwise(F.date_sub(F.lit(cut_off), newest)),
        allowed=F.when(only_later, F.lit(cut_off)).otherwise(
            F.coalesce("last_day", F.date_sub(F.lit(cut_off), 1))
        ),
    )  # fmt: skip


def _newer_facts(
    table: TableContract, kind: str, said: DataFrame, of_day: Tables, cut_off: date
) -> DataFrame:
    """Rows that say of an item or user what was first said at or after the cut-off, against what held before."""
    key, name = IDS[kind], FACTS[kind][1]
    rows = of_day[table].select(F.col(key).alias("id"), F.col(name).alias("fact"))
    same = F.filter("later", lambda one: one["fact"] == F.col("fact"))
    leaked = (
        rows.join(said.where("held IS NOT NULL"), "id")
        .where(F.col("held") != F.col("fact"))
        .select("id", F.array_min(F.transform(same, lambda one: one["valid_from"])).alias("since"))
        .where("since IS NOT NULL")
    )
    return _finding(
        leaked, table, name, SAID, key="id", found=F.col("since"), allowed=F.lit(cut_off)
    )
