"""One night after the other: what a night adds, what it replaces, and what it leaves alone."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.errors import MissingInput, Refused
from recsys.ingest import ingest_sources
from recsys.ingest.batch import write_tasks
from recsys.lake import Lake, as_of
from tests.ingest.tills import FIRST_DAY, LAST_FILE, RUN_DATE, Till, line, till

pytestmark = pytest.mark.spark

FIRST, SECOND = (FIRST_DAY + timedelta(days=n) for n in range(2))
ONE_DAY = timedelta(days=1)


@pytest.fixture
def shop(tmp_path: Path, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch) -> Till:
    made = till(tmp_path, config)
    monkeypatch.setenv("RECSYS_CONF", str(made.conf))
    return made


def ingest(lake: Lake, shop: Till, day: date, **settings: Any) -> None:
    """The night after ``day``."""
    ingest_sources(lake, shop.with_ingest(**settings), day + ONE_DAY)


def rows_by_unit(lake: Lake) -> dict[str, int]:
    counts = lake.read(contracts.EVENTS).groupBy("source_file").count().collect()
    return {row["source_file"]: row["count"] for row in counts}


def test_nights_whose_files_have_one_name_stand_beside_each_other(lake: Lake, shop: Till) -> None:
    both = {"2024-01-01/part-0.csv.gz": 5, "2024-01-02/part-0.csv.gz": 7}
    for day, rows in ((FIRST, 5), (SECOND, 7)):
        shop.deliver(f"{day}/part-0.csv.gz", [line(day, n) for n in range(rows)])
    shop.describe("{day}/*.csv.gz")
    ingest(lake, shop, FIRST)
    ingest(lake, shop, SECOND)
    assert rows_by_unit(lake) == both
    nightly = lake.content_hash(contracts.EVENTS)

    shop.describe("*/*.csv.gz")  # all days again: the same rows by the same names
    ingest(lake, shop, SECOND)
    assert rows_by_unit(lake) == both
    assert lake.content_hash(contracts.EVENTS) == nightly


def test_a_night_reads_the_one_partition_it_names(
    spark: SparkSession, lake: Lake, shop: Till
) -> None:
    header = "time string, article string, sold_on string"
    table: dict[str, Any] = {
        "format": {"type": "delta"}, "partition": "sold_on", "partition_value": "{day}",
        "raw_columns": {"time": "timestamp", "article": "string"},
        "columns": {"event_ts": "time", "item_id": "article"}, "event_type": "purchase",
        "segment": None, "attributes": {}, "quantity_sign": "positive", "rules": [], "items": {},
    }  # fmt: skip

    def sell(*articles: tuple[date, str]) -> None:
        rows = [(f"{day} 10:00:00", article, str(day)) for day, article in articles]
        loaded = spark.createDataFrame(rows, header)
        loaded = loaded.withColumn("sold_on", F.col("sold_on").cast("date"))
        loaded.write.format("delta").mode("overwrite").partitionBy("sold_on").save(
            str(shop.files / "rows")
        )

    shop.describe("rows", **table)
    sell((FIRST, "a1"), (FIRST, "a2"), (SECOND, "a3"))
    ingest(lake, shop, FIRST)
    assert rows_by_unit(lake) == {"sold_on=2024-01-01": 2}

    sell((FIRST, "a1"), (SECOND, "a3"), (SECOND, "a4"), (SECOND, "a5"))
    ingest(lake, shop, SECOND)  # what became of the first day is not looked at
    assert rows_by_unit(lake) == {"sold_on=2024-01-01": 2, "sold_on=2024-01-02": 3}
    ingest(lake, shop, FIRST)
    assert rows_by_unit(lake) == {"sold_on=2024-01-01": 1, "sold_on=2024-01-02": 3}

    with pytest.raises(MissingInput, match="has no row with sold_on=2024-01-03: deliver it"):
        ingest(lake, shop, SECOND + ONE_DAY)


def test_a_nightly_catalogue_is_known_from_its_night_on(lake: Lake, shop: Till) -> None:
    for day, stock in ((FIRST, 3), (SECOND, 0)):
        shop.deliver(f"{day}.csv.gz", [line(day, 1)])
        shop.deliver(f"catalogue/{day}.csv.gz", [f"a1,{stock}"], header="article,stock")
    shop.describe("{day}.csv.gz", items={})
    (shop.conf / "base" / "sources" / "catalogue.yml").write_text(
        f'kind: items\npattern: "{shop.files}/catalogue/{{day}}.csv.gz"\n'
        "raw_columns: {article: string, stock: bigint}\ncolumns: {item_id: article, stock: stock}\n"
        'valid_from: {constant: "{day}"}\n'
    )
    for day in (FIRST, SECOND):
        ingest(lake, shop, day, sources=("till", "catalogue"))

    def stock_known(on: date) -> list[int]:
        items = as_of.known_before(lake.read(contracts.ITEMS), "item_id", on)
        return [row["stock"] for row in items.collect()]

    assert stock_known(FIRST) == []  # the dump came after this day had begun
    assert stock_known(FIRST + ONE_DAY) == [3]  # the night's own lists
    assert stock_known(SECOND + ONE_DAY) == [0]


def test_a_source_that_fails_beside_a_larger_one_is_refused(lake: Lake, shop: Till) -> None:
    judged = [RUN_DATE - timedelta(days=n) for n in (15, 8, 1)]
    for day in judged:
        shop.deliver(f"web/{day}.csv.gz", [line(day, n) for n in range(100)])
    for day in judged[:-1]:
        shop.deliver(f"{day}.csv.gz", [line(day, n) for n in range(6)])
    shop.deliver(LAST_FILE, [line(judged[1], 59)])
    plain: dict[str, Any] = {"items": {}, "segment": None}
    shop.describe(**plain)
    shop.describe("web/*.csv.gz", source="web", **plain)
    with pytest.raises(Refused) as error:
        ingest(lake, shop, judged[-1], sources=("till", "web"))
    assert "source 'till': missing: no event on 2024-01-21 (wanted 0.7 to 2 x" in str(error.value)
    assert "all events" not in str(error.value) and "'web'" not in str(error.value)

    ingest(lake, shop, judged[-1], sources=("till", "web"), accept_volume="shut")
    kept = lake.read(contracts.DATA_QUALITY).where("check = 'volume'").orderBy("subject").collect()
    assert [(row["source"], row["subject"], row["verdict"]) for row in kept] == [
        ("", "", "ok"), ("till", "till", "accepted"), ("web", "web", "ok"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "parallel", "tasks"),
    [
        (0, 16, 1),
        (99_999, 16, 1),  # no work for a second core
        (100_000, 16, 2),
        (10_000_000, 16, 16),
        (10_000_000, 2, 10),  # files stay small enough to be read in parallel
        (100_000, 1000, 2),  # a large cluster makes no dust of a small table
    ],
)
def test_a_table_is_written_by_as_many_tasks_as_it_has_work_for(
    rows: int, parallel: int, tasks: int
) -> None:
    assert write_tasks(rows, parallel) == tasks


def test_every_table_is_written_by_its_own_size(
    lake: Lake, shop: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    sold = [line(FIRST, n, customer=f"c{n}", article=f"a{n % 2}") for n in range(20)]
    dirty = [line(FIRST, n, pieces="two") for n in range(30, 55)]
    shop.deliver("day.csv.gz", [*sold, *dirty])
    monkeypatch.setattr("recsys.ingest.batch.ROWS_PER_TASK", 5)
    monkeypatch.setattr("recsys.ingest.batch.ROWS_PER_FILE", 10)
    ingest(lake, shop, FIRST, max_quarantined_share=0.9)

    def files(table: contracts.TableContract) -> int:
        return len(lake.read(table).inputFiles())

    # 20 events, 2 items, 20 users, 25 refused rows
    tables = (contracts.EVENTS, contracts.ITEMS, contracts.USERS, contracts.QUARANTINE)
    assert [files(table) for table in tables] == [2, 1, 2, 3]
