"""A run of ingest as a whole: what it writes, what it replaces, and that a refusal leaves everything as it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.errors import EXIT_REFUSED, CorruptArtifact, MissingInput, RecsysError, Refused
from recsys.ingest import Ingested, ingest_sources
from recsys.lake import Lake
from tests.conftest import TEST_SPARK
from tests.ingest.tills import DAYS, FIRST_DAY, HEADER, LAST_FILE, RUN_DATE, Till, line, till

pytestmark = pytest.mark.spark

TABLES = (
    contracts.EVENTS,
    contracts.ITEMS,
    contracts.USERS,
    contracts.QUARANTINE,
    contracts.DATA_QUALITY,
)
LAST_DAY = RUN_DATE - timedelta(days=1)
ROWS_PER_DAY = 12


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    """Three weeks of a till, ingested: every day as many rows as the other, two of a day's lines dirty."""
    root = tmp_path_factory.mktemp("till")
    shop = till(root, RecsysConfig(paths=PathsConfig(root=str(root / "var")), spark=TEST_SPARK))
    shop.deliver_days(ROWS_PER_DAY)
    day = FIRST_DAY + timedelta(days=1)
    lines = [line(day, n) for n in range(ROWS_PER_DAY)]
    dirty = [line(day, 50, time="noon"), line(day, 50, time="noon"), line(day, 51, price="-1")]
    shop.deliver(f"{day}.csv.gz", [*lines, *dirty, lines[0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_CONF", str(shop.conf))
        ingest(spark, shop)
    yield shop


@pytest.fixture
def shop(base: Till, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Till:
    """A copy of the delivered files over the same lake."""
    shutil.copytree(base.files, tmp_path / "raw")
    mine = Till(tmp_path, base.config)
    monkeypatch.setenv("RECSYS_CONF", str(mine.conf))
    return mine


def ingest(spark: SparkSession, shop: Till, run_date: date = RUN_DATE, **settings: Any) -> Ingested:
    config = shop.with_ingest(**settings)
    return ingest_sources(
        Lake(spark, config.paths), config, run_date, live=lambda: "2024-01-20-abc"
    )


def lake_of(spark: SparkSession, shop: Till) -> Lake:
    return Lake(spark, shop.config.paths)


def versions(spark: SparkSession, shop: Till) -> dict[str, int]:
    lake = lake_of(spark, shop)
    return {table.name: lake.version(table) for table in TABLES}


def hashes(spark: SparkSession, shop: Till) -> dict[str, str]:
    lake = lake_of(spark, shop)
    return {table.name: lake.content_hash(table) for table in TABLES}


def test_every_row_is_in_one_place_and_the_counts_say_so(spark: SparkSession, base: Till) -> None:
    lake = lake_of(spark, base)
    counts = {
        (r["check"], r["source_file"], r["subject"]): r["value"]
        for r in lake.read(contracts.DATA_QUALITY).collect()
    }
    file = "2024-01-02.csv.gz"
    assert {what: counts["rows", file, what] for what in ("raw", "accepted", "quarantined", "duplicates")} == {
        "raw": 16, "accepted": 12, "quarantined": 3, "duplicates": 1,
    }  # fmt: skip
    assert counts["reason", file, "unparsable_time"] == 2
    assert counts["reason", file, "price_negative"] == 1
    assert counts["quarantined_share", file, ""] == pytest.approx(3 / 16)
    assert lake.read(contracts.EVENTS).count() == DAYS * ROWS_PER_DAY
    refused = lake.read(contracts.QUARANTINE).orderBy("raw_row", "copy").collect()
    assert [(r["copy"], r["reasons"]) for r in refused] == [
        (0, ["price_negative"]), (0, ["unparsable_time"]), (1, ["unparsable_time"]),
    ]  # fmt: skip
    assert refused[0]["raw_row"] == line(date(2024, 1, 2), 51, price="-1")
    assert {r["source_file"] for r in refused} == {file}


def test_items_and_users_come_from_the_rows(spark: SparkSession, base: Till) -> None:
    lake = lake_of(spark, base)
    items = lake.read(contracts.ITEMS, item_id="a1").orderBy("valid_from").collect()
    # One row per file in which it is sold; files know nothing of each other.
    assert [(r["title"], float(r["price"])) for r in items] == [("Mug 1", 1.5)] * DAYS
    users = lake.read(contracts.USERS).select("user_id").distinct().count()
    assert users == 7


def test_ingesting_again_replaces_exactly_the_file_s_rows(spark: SparkSession, shop: Till) -> None:
    before = hashes(spark, shop)
    day = FIRST_DAY
    shop.describe("2024-01-01.csv.gz")
    shop.deliver("2024-01-01.csv.gz", [line(day, n, article="new", name="New") for n in range(4)])
    ingest(spark, shop)
    events = lake_of(spark, shop).read(contracts.EVENTS)
    assert events.where("source_file = '2024-01-01.csv.gz'").select(
        "item_id"
    ).distinct().collect() == [("new",)]
    assert events.count() == (DAYS - 1) * ROWS_PER_DAY + 4

    shop.deliver("2024-01-01.csv.gz", [line(day, n) for n in range(ROWS_PER_DAY)])
    ingest(spark, shop)
    after = hashes(spark, shop)
    # The counts of a run are those of its own files.
    assert {k: v for k, v in after.items() if k != "data_quality"} == {
        k: v for k, v in before.items() if k != "data_quality"
    }


def refused(
    spark: SparkSession, shop: Till, kind: type[RecsysError] = Refused, **settings: Any
) -> str:
    """The message of a refused run, after looking that no table has moved."""
    before = versions(spark, shop)
    with pytest.raises(kind) as error:
        ingest(spark, shop, **settings)
    assert versions(spark, shop) == before
    return str(error.value)


def test_a_short_day_is_refused_with_both_ways_on(spark: SparkSession, shop: Till) -> None:
    shop.deliver(LAST_FILE, [line(LAST_DAY, n) for n in range(0, ROWS_PER_DAY, 2)])
    said = refused(spark, shop)
    assert "all events: short: 6 events on 2024-01-21, 50% of the usual 12" in said
    assert "release 2024-01-20-abc keeps serving" in said
    assert '--accept-volume "reason"' in said


def test_a_missing_day_is_refused(spark: SparkSession, shop: Till) -> None:
    # The day's file was delivered, with the day before in it.
    shop.deliver(LAST_FILE, [line(LAST_DAY - timedelta(days=1), n) for n in range(ROWS_PER_DAY)])
    assert "all events: missing: no event on 2024-01-21" in refused(spark, shop)


def test_a_doubled_day_is_refused(spark: SparkSession, shop: Till) -> None:
    shop.deliver("2024-01-21-again.csv.gz", [line(LAST_DAY, n) for n in range(ROWS_PER_DAY * 2)])
    assert "too many: 36 events on 2024-01-21, 3.0 x the usual 12" in refused(spark, shop)


def test_a_missing_segment_is_refused(spark: SparkSession, shop: Till) -> None:
    shop.deliver(LAST_FILE, [line(LAST_DAY, n, town="Leeds") for n in range(ROWS_PER_DAY)])
    said = refused(spark, shop)
    assert "York: missing: no event on 2024-01-21" in said
    assert "all events" not in said


def test_an_accepted_volume_is_written_with_its_reason(spark: SparkSession, shop: Till) -> None:
    shop.describe(LAST_FILE)
    shop.deliver(LAST_FILE, [line(LAST_DAY, n) for n in range(3)])
    ingest(spark, shop, accept_volume="flood, shop shut at noon")
    kept = (
        lake_of(spark, shop)
        .read(contracts.DATA_QUALITY)
        .where("check = 'volume' AND verdict = 'accepted'")
    )
    by_segment = {r["subject"]: r for r in kept.collect()}
    assert by_segment[""]["reason"].startswith(
        "flood, shop shut at noon (short: 3 events on 2024-01-21"
    )
    assert by_segment[""]["value"] == 3
    assert by_segment[""]["run_date"] == RUN_DATE
    # And back, for the tests that follow.
    shop.deliver(LAST_FILE, [line(LAST_DAY, n) for n in range(ROWS_PER_DAY)])
    ingest(spark, shop)


def test_a_truncated_gzip_is_named(spark: SparkSession, shop: Till) -> None:
    path = shop.files / "2024-01-03.csv.gz"
    path.write_bytes(path.read_bytes()[:-20])
    assert "file 2024-01-03.csv.gz is a truncated gzip" in refused(spark, shop, CorruptArtifact)


def test_dates_in_the_wrong_format_throughout_are_named_with_an_example(
    spark: SparkSession, shop: Till
) -> None:
    shop.deliver(
        "2024-01-03.csv.gz", [line(date(2024, 1, 3), n, time=f"Jan 3 10:{n}") for n in range(12)]
    )
    said = refused(spark, shop)
    assert (
        "file 2024-01-03.csv.gz: 12 of 12 rows (100.0%) are quarantined, at most 20.0% may be"
        in said
    )
    assert "unparsable_time: 12 rows, the first 'Jan 3 10:0,S01030," in said


def test_a_retyped_column_is_named_with_an_example(spark: SparkSession, shop: Till) -> None:
    shop.deliver(
        "2024-01-03.csv.gz", [line(date(2024, 1, 3), n, pieces="two pieces") for n in range(12)]
    )
    assert (
        "unparsable_pieces: 12 rows, the first '2024-01-03 10:00:00,S01030,c0,a0,two pieces"
        in refused(spark, shop)
    )


def test_a_renamed_column_is_named_with_the_nearest(spark: SparkSession, shop: Till) -> None:
    rows = [line(date(2024, 1, 3), n) for n in range(12)]
    shop.deliver("2024-01-03.csv.gz", rows, header=HEADER.replace("price", "unit_price"))
    said = refused(spark, shop)
    assert (
        "file 2024-01-03.csv.gz: column 'price' is missing; nearest in the file: 'unit_price'"
        in said
    )


def test_a_wrong_delimiter_is_named(spark: SparkSession, shop: Till) -> None:
    rows = [line(date(2024, 1, 3), n).replace(",", ";") for n in range(12)]
    shop.deliver("2024-01-03.csv.gz", rows, header=HEADER.replace(",", ";"))
    assert "divided by ';'; the description says ','" in refused(spark, shop)


def test_a_missing_file_is_named(spark: SparkSession, shop: Till) -> None:
    shop.describe("2024-01-22.csv.gz")
    assert "no file matches" in refused(spark, shop, MissingInput)


def test_a_file_above_the_quarantined_share_is_refused(spark: SparkSession, shop: Till) -> None:
    # The dirty day was let in with the share of 3 / 16 that 0.2 allows.
    said = refused(spark, shop, max_quarantined_share=3 / 16 - 1e-9)
    assert "2024-01-02.csv.gz: 3 of 16 rows (18.8%) are quarantined" in said


def test_refusals_leave_with_exit_code_3() -> None:
    assert Refused.exit_code == CorruptArtifact.exit_code == EXIT_REFUSED == 3
