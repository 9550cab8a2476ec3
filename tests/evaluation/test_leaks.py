"""What was built as of a cut-off and knows of later days is refused: by table, key, and both days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from recsys import contracts as t
from recsys.candidates.day import sequences_of_day
from recsys.candidates.day import tables_of_day as candidates_of_day
from recsys.config import RecsysConfig
from recsys.config.sections import EvaluationConfig
from recsys.config.shop import ShopConfig
from recsys.errors import Refused
from recsys.features import vocabularies
from recsys.features.day import tables_of_day as features_of_day
from recsys.lake import Lake, local_rows, struct_type
from tests.evaluation import shop as small_shop
from tests.features.rows import Event, events_df, items_df, users_df

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from recsys.evaluation.leak_findings import Tables
    from recsys.evaluation.leaks import Leak

pytestmark = pytest.mark.spark

CUT_OFF = date(2024, 6, 1)
DAY = timedelta(days=1)
SHOP = ShopConfig()
CONFIG = RecsysConfig(shop=SHOP)

EVENTS = [
    Event("ana", "tea", CUT_OFF - 9 * DAY),
    Event("ana", "cup", CUT_OFF - 4 * DAY),
    Event("bob", "tea", CUT_OFF - 8 * DAY),
    Event("bob", "cup", CUT_OFF - 2 * DAY),
    Event("ana", "tea", CUT_OFF + DAY),
    Event("ana", "new", CUT_OFF + 2 * DAY),  # an item that nobody knew of
    Event("eve", "jam", CUT_OFF + 3 * DAY),  # a user that nobody knew of; jam was in the catalogue
]
ITEMS = [
    ("tea", CUT_OFF - 9 * DAY, "drinks", "3"),
    ("tea", CUT_OFF + DAY, None, "4"),
    ("jam", CUT_OFF - 9 * DAY, "food", "5"),
]
USERS = [("ana", CUT_OFF - 9 * DAY, "north"), ("ana", CUT_OFF, "south")]


def observed(spark: SparkSession) -> dict[t.TableContract, DataFrame]:
    return {
        t.EVENTS: events_df(spark, EVENTS),
        t.ITEMS: items_df(spark, ITEMS),
        t.USERS: users_df(spark, USERS),
    }


def built(spark: SparkSession, as_of: date, label: date) -> dict[t.TableContract, DataFrame]:
    """What the jobs make as of ``as_of``, with the day ``label`` on it."""
    from pyspark.sql import functions as F

    known = observed(spark)
    events, items, users = known[t.EVENTS], known[t.ITEMS], known[t.USERS]
    nothing = local_rows(spark, [], struct_type(t.VOCABULARIES))
    numbers = rows_of(vocabularies(events, items, users, nothing, as_of=as_of), t.VOCABULARIES)
    features = {
        table: rows_of(rows, table)
        for table, rows in features_of_day(
            events, items, users, numbers, config=CONFIG, as_of=as_of
        ).items()
    }
    histories = features[t.HISTORIES]
    units = sequences_of_day(events, histories, numbers, config=CONFIG, as_of=as_of)
    candidates = {
        table: rows_of(rows, table)
        for table, rows in candidates_of_day(
            units, events, histories, numbers, config=CONFIG, as_of=as_of
        ).items()
    }
    dated = {
        table: rows.withColumn("as_of", F.lit(label))
        for table, rows in {**features, **candidates}.items()
    }
    return {t.VOCABULARIES: numbers.withColumn("version", F.lit(label)), **dated}


def rows_of(rows: DataFrame, table: t.TableContract) -> DataFrame:
    """The same as plain rows: they are read again and again."""
    return local_rows(rows.sparkSession, map(tuple, rows.collect()), struct_type(table))


@pytest.fixture(scope="module")
def honest(spark: SparkSession) -> Tables:
    """Everything as it should be at the cut-off."""
    return {**observed(spark), **built(spark, CUT_OFF, CUT_OFF)}


@pytest.fixture(scope="module")
def late(spark: SparkSession) -> Tables:
    """The same built four days later, and labelled with the cut-off."""
    return built(spark, CUT_OFF + 4 * DAY, CUT_OFF)


def leaks_of(tables: Tables, shop: ShopConfig = SHOP) -> dict[tuple[str, str, str], Leak]:
    from recsys.evaluation.leaks import leaks

    return {(leak.table, leak.column, leak.kind): leak for leak in leaks(tables, shop, CUT_OFF)}


def test_what_is_built_of_the_days_before_does_not_leak(
    spark: SparkSession, honest: Tables, late: Tables
) -> None:
    """Though the catalogue names jam before anybody had it, an older vocabulary has new, and later days are there."""
    from pyspark.sql import functions as F

    kept = [("item", CUT_OFF, "new", 9), ("item", CUT_OFF - DAY, "new", 9)]
    numbers = honest[t.VOCABULARIES].unionByName(
        local_rows(spark, kept, struct_type(t.VOCABULARIES))
    )
    later = late[t.POPULARITY].withColumn("as_of", F.lit(CUT_OFF + 4 * DAY))
    popular = honest[t.POPULARITY].unionByName(later)

    assert honest[t.ITEM_FEATURES].where("item_id = 'jam'").count() == 1
    assert leaks_of({**honest, t.VOCABULARIES: numbers, t.POPULARITY: popular}) == {}


# Built four days late: what each table then knows of, by column and kind; how many, and the first.
PLANTED = {
    t.VOCABULARIES: {
        ("item", "first_event"): (1, "new", CUT_OFF + 2 * DAY, CUT_OFF),
        ("user", "first_event"): (1, "eve", CUT_OFF + 3 * DAY, CUT_OFF),
    },
    t.ITEM_FEATURES: {
        # new and jam are said to have had an event; tea was bought 3 days before, by a calendar 4 days off
        ("days_since_last_event", "first_event"): (2, "jam", CUT_OFF + 3 * DAY, CUT_OFF),
        ("days_since_last_event", "newest_event"): (1, "tea", CUT_OFF - 3 * DAY, CUT_OFF - 8 * DAY),
        ("price", "said"): (1, "tea", CUT_OFF + DAY, CUT_OFF),
    },
    t.USER_FEATURES: {
        ("days_since_last_event", "first_event"): (1, "eve", CUT_OFF + 3 * DAY, CUT_OFF),
        ("days_since_last_event", "newest_event"): (1, "ana", CUT_OFF - 2 * DAY, CUT_OFF - 4 * DAY),
        ("segment", "said"): (1, "ana", CUT_OFF, CUT_OFF),
    },
    t.HISTORIES: {
        ("ages_days", "first_event"): (1, "eve", CUT_OFF + 3 * DAY, CUT_OFF),
        ("ages_days", "newest_event"): (1, "ana", CUT_OFF - 2 * DAY, CUT_OFF - 4 * DAY),
        ("item_ids", "first_event"): (2, "jam", CUT_OFF + 3 * DAY, CUT_OFF),
        ("segment", "said"): (1, "ana", CUT_OFF, CUT_OFF),
    },
    t.SEEN_ITEMS: {("item_nums", "first_event"): (2, "jam", CUT_OFF + 3 * DAY, CUT_OFF)},
    t.ITEM_SIMILARITY: {
        ("item_id", "first_event"): (1, "new", CUT_OFF + 2 * DAY, CUT_OFF),
        ("similar_item_id", "first_event"): (1, "new", CUT_OFF + 2 * DAY, CUT_OFF),
    },
    t.TRANSITIONS: {
        ("next_item_id", "first_event"): (1, "new", CUT_OFF + 2 * DAY, CUT_OFF),
    },
    t.REORDER_INTERVALS: {("item_id", "first_event"): (2, "jam", CUT_OFF + 3 * DAY, CUT_OFF)},
    t.POPULARITY: {("item_id", "first_event"): (2, "jam", CUT_OFF + 3 * DAY, CUT_OFF)},
}


def test_every_table_that_was_built_too_late_leaks(honest: Tables, late: Tables) -> None:
    found = leaks_of({**honest, **late})

    assert {
        key: (leak.count, leak.key, leak.found, leak.allowed) for key, leak in found.items()
    } == {
        (table.name, *place): told
        for table, places in PLANTED.items()
        for place, told in places.items()
    }


def test_an_event_at_the_moment_of_the_cut_off_is_not_before_it(
    spark: SparkSession, honest: Tables
) -> None:
    """In a history; and among the events, where one has the day of another zone.

    It was ingested by London's calendar, and the shop is in Shanghai: at 18:00 UTC its next day has begun.
    """
    rows = [("zoe", CUT_OFF, None, ["tea"], [1], ["purchase"], [0.0], False)]
    history = local_rows(spark, rows, struct_type(t.HISTORIES))
    evening = datetime(2024, 5, 31, 18, tzinfo=UTC)
    events = events_df(spark, [*EVENTS, Event("ana", "cup", evening, event_id="late")])
    tables = {**honest, t.HISTORIES: history, t.EVENTS: events}

    found = leaks_of(tables, ShopConfig(time_zone="Asia/Shanghai"))

    assert set(found) == {
        ("events", "event_id", "side"),
        ("histories", "ages_days", "newest_event"),
    }
    side, history_leak = found.values()
    assert (side.count, side.key, side.found, side.allowed) == (1, "late", CUT_OFF - DAY, CUT_OFF)
    assert (history_leak.key, history_leak.found, history_leak.allowed) == (
        "zoe", CUT_OFF, CUT_OFF - DAY,
    )  # fmt: skip


@pytest.mark.slow
def test_a_leak_fails_the_run_by_table_key_and_days(lake: Lake, config: RecsysConfig) -> None:
    """A shop with some of the tables alone: the others are passed over."""
    from recsys.evaluation.leaks import check_leaks

    small = EvaluationConfig(window_days=small_shop.WINDOW_DAYS)
    config = config.model_copy(update={"evaluation": small})
    small_shop.write_shop(lake, config)
    day = small.cut_offs(small_shop.RUN_DATE).measuring
    check_leaks(lake, config, day)

    append(lake, t.EVENTS, events_df(lake.spark, [Event("u00", "i99", day + DAY, event_id="late")]))
    popular = [("", day, "i99", 99, 0.5, 40, 99)]
    append(lake, t.POPULARITY, local_rows(lake.spark, popular, struct_type(t.POPULARITY)))

    with pytest.raises(
        Refused,
        match=rf"as of {day} knows of later days.*\n  popularity, item_id 'i99': its first event "
        rf"is of {day + DAY}, the cut-off is {day}. Run build_candidates again",
    ):
        check_leaks(lake, config, day)


def append(lake: Lake, table: t.TableContract, rows: DataFrame) -> None:
    rows.write.format("delta").mode("append").save(lake.path(table))
