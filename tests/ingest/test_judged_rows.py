"""Every raw row once, in this order: unparsable, a repeat, broken rules, accepted."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.config import RecsysConfig
from recsys.errors import ConfigError, MissingInput, Refused
from recsys.ingest import ingest_sources, read_descriptions
from recsys.ingest.judged_rows import judge_rows
from recsys.ingest.quality import FileCounts, count_rows
from recsys.ingest.raw_rows import RawRows, read_raw_rows
from recsys.lake import Lake
from tests.ingest.tills import FIRST_DAY, RUN_DATE, Till, line, till

pytestmark = pytest.mark.spark

DAY = FIRST_DAY


@pytest.fixture
def shop(tmp_path: Path, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch) -> Till:
    made = till(tmp_path, config)
    monkeypatch.setenv("RECSYS_CONF", str(made.conf))
    return made


def judge(spark: SparkSession, shop: Till, run_date: date = RUN_DATE) -> tuple[RawRows, DataFrame]:
    [description] = read_descriptions(shop.config, run_date)
    raw = read_raw_rows(spark, description)
    return raw, judge_rows(raw, shop.config, run_date)


def verdicts(
    spark: SparkSession, shop: Till, *lines: str, **judged: Any
) -> list[tuple[str, list[str]]]:
    """Verdict and reasons of each line of one file, in the file's order."""
    shop.deliver("day.csv.gz", lines)
    _, rows = judge(spark, shop, **judged)
    kept = rows.where("_position >= 0").orderBy("_position").select("_status", "_reasons").collect()
    return [(row["_status"], row["_reasons"]) for row in kept]


def test_each_row_gets_its_verdict_in_the_promised_order(spark: SparkSession, shop: Till) -> None:
    found = verdicts(
        spark, shop,
        line(DAY, 1),
        line(DAY, 2, time="yesterday"),  # unparsable
        line(DAY, 1),  # a repeat
        line(DAY, 3, time="soon", pieces="two", price="-1"),  # unparsable: rules are not asked
        line(DAY, 2, time="yesterday"),  # unparsable again, not a repeat: it has no key
        line(DAY, 4, price="-1", article="bag"),  # two rules, conf's order
        line(DAY, 4, price="-1", article="bag"),  # a repeat, though its first was refused
        line(DAY, 5, article=""),  # a rule of the shop's own, so ours does not say it again
        "too,few,fields",
        line(DAY, 6, pieces="-2"),  # only returns are negative
        line(DAY, 7, pieces="-2", slip="R7"),
        line(DAY, 8, time="02/01/2024 09:30"),  # the second format
    )  # fmt: skip
    assert found == [
        ("accepted", []),
        ("quarantined", ["unparsable_time"]),
        ("duplicate", []),
        ("quarantined", ["unparsable_time", "unparsable_pieces"]),
        ("quarantined", ["unparsable_time"]),
        ("quarantined", ["price_negative", "carrier_bag"]),
        ("duplicate", ["price_negative", "carrier_bag"]),
        ("quarantined", ["no_article"]),
        ("quarantined", ["malformed_row"]),
        ("quarantined", ["wrong_quantity_sign"]),
        ("accepted", []),
        ("accepted", []),
    ]


def test_a_repeat_by_a_narrow_key_needs_a_parsable_row_before_it(
    spark: SparkSession, shop: Till
) -> None:
    shop.describe(key=["slip"])
    found = verdicts(
        spark, shop,
        line(DAY, 1, slip="S1", pieces="two"),  # no key, so it makes nothing a repeat
        line(DAY, 2, slip="S1"),
        line(DAY, 3, slip="S1"),  # other values, same slip
    )  # fmt: skip
    assert [status for status, _ in found] == ["quarantined", "accepted", "duplicate"]


def test_what_the_events_table_needs_is_asked_of_every_row(spark: SparkSession, shop: Till) -> None:
    shop.describe(rules=[])
    found = verdicts(
        spark, shop,
        line(DAY, 1, article=""),
        line(DAY, 2, time=""),
        line(DAY, 3, price="-1"),
        line(DAY, 4, pieces="0"),
        line(DAY, 5, pieces="", price="", customer=""),  # allowed: not every event has them
    )  # fmt: skip
    assert [reasons for _, reasons in found] == [
        ["no_item_id"], ["no_event_ts"], ["negative_unit_price"], ["wrong_quantity_sign"], [],
    ]  # fmt: skip


def test_a_row_after_the_run_date_is_future_dated(spark: SparkSession, shop: Till) -> None:
    lines = [line(RUN_DATE, 1), line(date(2024, 1, 23), 2), line(date(2042, 1, 1), 3)]
    found = verdicts(spark, shop, *lines)
    # The run date has begun when a file is fetched in the small hours; the day after it has not.
    assert [reasons for _, reasons in found] == [[], ["future_dated"], ["future_dated"]]


def test_an_archive_loses_nothing_to_an_earlier_run_date(spark: SparkSession, shop: Till) -> None:
    shop.describe(covers_until=RUN_DATE)
    lines = [line(date(2024, 1, 21), 1), line(date(2042, 1, 1), 2)]
    found = verdicts(spark, shop, *lines, run_date=date(2024, 1, 10))
    assert [reasons for _, reasons in found] == [[], ["future_dated"]]


def test_a_row_in_our_columns(spark: SparkSession, shop: Till) -> None:
    shop.describe(time_zone="America/New_York")
    shop.deliver(
        "day.csv.gz",
        [line(DAY, 1, time="2024-01-01 20:30:00", slip="R1", pieces="-2", customer="")],
    )
    _, rows = judge(spark, shop)
    [row] = rows.where("_status = 'accepted'").collect()
    assert row["event_type"] == "return"
    assert row["event_ts"] == datetime(2024, 1, 2, 1, 30)
    assert row["event_date"] == date(2024, 1, 2)  # the shop's zone is London
    assert (row["user_id"], row["item_id"], row["session_id"]) == (None, "a1", "R1")
    assert (float(row["quantity"]), float(row["unit_price"])) == (2.0, 1.5)
    assert row["attributes"] == {"slip_kind": "R", "segment": "Leeds"}
    assert (row["source"], row["source_file"]) == ("till", "day.csv.gz")


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-03-31 00:59:59", datetime(2024, 3, 31, 0, 59, 59)),  # the last second of winter time
        ("2024-03-31 02:00:00", datetime(2024, 3, 31, 1, 0)),  # summer time
        (
            "2024-03-31 01:30:00",
            datetime(2024, 3, 31, 1, 30),
        ),  # skipped by the clocks, taken as if not
        ("2024-10-27 01:30:00", datetime(2024, 10, 27, 0, 30)),  # comes twice: the first
    ],
)
def test_local_times_over_a_clock_change(
    spark: SparkSession, shop: Till, text: str, utc: datetime
) -> None:
    shop.describe(covers_until=date(2025, 1, 1))
    shop.deliver("day.csv.gz", [line(DAY, 1, time=text)])
    _, rows = judge(spark, shop)
    assert [row["event_ts"] for row in rows.where("_status = 'accepted'").collect()] == [utc]


def test_counts_equal_a_plain_reading_of_the_file(spark: SparkSession, shop: Till) -> None:
    """A thousand lines at random, judged a second time by ten lines of Python."""
    chance = random.Random(17)
    lines = [
        line(
            DAY, chance.randrange(40),
            time=chance.choice(["2024-01-01 10:00:00", "2024-01-01 11:00:00", "01/01/2024 10:00", "1.1.24", ""]),
            price=chance.choice(["1.50", "1.50", "-2", "0", "?"]),
            article=chance.choice(["a1", "a2", "bag", ""]),
        )
        for _ in range(1000)
    ]  # fmt: skip
    expected: Counter[str] = Counter()
    seen: set[str] = set()
    for text in lines:
        time, _, _, article, _, price, *_ = text.split(",")
        if time == "1.1.24" or price == "?":
            expected["quarantined"] += 1
        elif text in seen:
            expected["duplicates"] += 1
        else:
            seen.add(text)
            expected[
                "quarantined" if not time or price == "-2" or article in {"", "bag"} else "accepted"
            ] += 1

    shop.deliver("day.csv.gz", lines)
    raw, rows = judge(spark, shop)
    [counts] = count_rows(rows, raw)
    assert counts.raw == len(lines)
    assert {name: getattr(counts, name) for name in expected} == expected
    assert min(expected.values()) > 50


def test_sql_that_does_not_fit_is_a_config_error(spark: SparkSession, shop: Till) -> None:
    shop.describe(rules=[{"reason": "odd", "sql": "prise > 0"}])
    shop.deliver("day.csv.gz", [line(DAY, 1)])
    with pytest.raises(
        ConfigError, match=r"source 'till': its SQL does not fit its raw columns.*prise"
    ):
        judge(spark, shop)


ROWS = [  # as test_every_format_gives_the_same_counts delivers them
    ("2024-01-01 10:00:00", "S1", "c1", "a1", 2.0, 1.5, "York", "Mug"),
    ("2024-01-01 10:00:00", "S1", "c1", "a1", 2.0, 1.5, "York", "Mug"),
    ("2024-01-01 10:01:00", "S2", "c2", "a2", 1.0, -1.5, "York", "Cup"),
    ("2024-01-01 10:02:00", "S3", None, "a2", 1.0, 2.5, "Leeds", "Cup"),
]
COLUMNS = (
    "time string, slip string, customer string, article string, pieces double, price double, "
    "town string, name string"
)


def typed_rows(spark: SparkSession) -> DataFrame:
    loaded = spark.createDataFrame(ROWS, COLUMNS).coalesce(1)
    return loaded.selectExpr(
        "to_timestamp(time) AS time", *[f for f in loaded.columns if f != "time"]
    )


@pytest.mark.parametrize("format_", ["parquet", "json_lines", "delta", "table"])
def test_every_format_gives_the_same_counts(spark: SparkSession, shop: Till, format_: str) -> None:
    place = str(shop.files / "rows")
    if format_ == "json_lines":
        spark.createDataFrame(ROWS, COLUMNS).coalesce(1).write.json(place)
        shop.describe("rows/*.json", format={"type": format_})
    elif format_ == "parquet":
        typed_rows(spark).write.parquet(place)
        shop.describe("rows/*.parquet", format={"type": format_})
    else:
        typed_rows(spark).write.format("delta").save(place)
        shop.describe("rows", format={"type": "delta"}, partition="town")
        if format_ == "table":
            spark.read.format("delta").load(place).createOrReplaceTempView("till_rows")
            shop.describe(format={"type": "table"}, table="till_rows", partition="town")
    raw, rows = judge(spark, shop)
    counts = count_rows(rows, raw)
    total = FileCounts("till", "all")
    for file in counts:
        assert file.raw == file.accepted + file.quarantined + file.duplicates
        for name in ("raw", "accepted", "quarantined", "duplicates"):
            setattr(total, name, getattr(total, name) + getattr(file, name))
    assert (total.raw, total.accepted, total.quarantined, total.duplicates) == (4, 2, 1, 1)
    if format_ in {"delta", "table"}:  # a value of the partition column is a unit
        assert {f.file: f.raw for f in counts} == {"town=Leeds": 1, "town=York": 3}
    [refused] = rows.where("_status = 'quarantined'").collect()
    assert "-1.5" in refused["_raw_row"]
    assert rows.where("_status = 'accepted'").select("event_id").distinct().count() == 2


def test_a_retyped_column_of_a_typed_file_is_named(spark: SparkSession, shop: Till) -> None:
    spark.createDataFrame(
        [(1.0, *ROWS[0][1:])], COLUMNS.replace("time string", "time double")
    ).write.parquet(str(shop.files / "rows"))
    shop.describe("rows/*.parquet", format={"type": "parquet"})
    with pytest.raises(Refused, match="column 'time' is double, the description says timestamp"):
        judge(spark, shop)


def test_a_number_that_became_a_float_is_no_id(spark: SparkSession, shop: Till) -> None:
    row = ("2024-01-01 10:00:00", "S1", 13085.0, *ROWS[0][3:])
    spark.createDataFrame(
        [row], COLUMNS.replace("customer string", "customer double")
    ).write.parquet(str(shop.files / "rows"))
    shop.describe("rows/*.parquet", format={"type": "parquet"})
    with pytest.raises(Refused, match="column 'customer' is double, the description says string"):
        judge(spark, shop)


def test_rows_without_a_partition_are_a_unit_too(spark: SparkSession, shop: Till) -> None:
    rows = typed_rows(spark).withColumn("town", F.when(F.col("slip") != "S3", F.col("town")))
    rows.createOrReplaceTempView("till_rows")
    shop.describe(format={"type": "table"}, table="till_rows", partition="town")
    raw, judged = judge(spark, shop)
    found = {file.file: file.raw for file in count_rows(judged, raw)}
    assert found == {"town=York": 3, "town=__HIVE_DEFAULT_PARTITION__": 1}


def test_an_empty_table_is_no_delivery(spark: SparkSession, shop: Till, lake: Lake) -> None:
    typed_rows(spark).where("false").createOrReplaceTempView("till_rows")
    shop.describe(format={"type": "table"}, table="till_rows")
    with pytest.raises(MissingInput, match="no rows in the tables of the sources till"):
        ingest_sources(lake, shop.config, RUN_DATE)


def test_a_table_that_is_not_there_is_named(spark: SparkSession, shop: Till) -> None:
    shop.describe(format={"type": "table"}, table="no_such_table")
    with pytest.raises(MissingInput, match="source 'till': no table 'no_such_table'"):
        judge(spark, shop)
