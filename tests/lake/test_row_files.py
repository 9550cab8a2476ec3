"""Files that workers wrote: what is checked on the way, and a commit that every reader takes for any other."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from recsys.config.places import PathsConfig
from recsys.contracts import EVENTS, TOP_N_LISTS
from recsys.errors import ContractError
from recsys.lake.row_files import Destination, RowFile, RowFileWriter
from recsys.sql.duck import open_lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys.lake import Lake

DAY, OTHER_DAY = date(2024, 6, 1), date(2024, 6, 2)
SCHEMA = pa.schema([
    pa.field("user_id", pa.string(), nullable=False), pa.field("as_of", pa.date32(), nullable=False),
    pa.field("item_ids", pa.list_(pa.string())), pa.field("scores", pa.list_(pa.float32())),
    pa.field("sources", pa.list_(pa.string())), pa.field("model_version", pa.string()),
])  # fmt: skip
ITEMS = pa.array(["tea", "cup", "pot"])


def batch_of(*users: str | None, version: object = "m1") -> pa.RecordBatch:
    """A list of two places for each user."""
    n = len(users)
    offsets = pa.array(range(0, 2 * n + 1, 2), pa.int32())
    nums = pa.DictionaryArray.from_arrays(pa.array([0, 2] * n, pa.int32()), ITEMS)
    scores, sources = pa.array([2.0, 1.0] * n, pa.float32()), pa.array(["model", "similar"] * n)
    lists = [pa.ListArray.from_arrays(offsets, one) for one in (nums, scores, sources)]
    return pa.RecordBatch.from_arrays(
        [pa.array(users, pa.string()), *lists, pa.array([version] * n)],
        names=["user_id", "item_ids", "scores", "sources", "model_version"],
    )


def written(to: Destination, *batches: pa.RecordBatch) -> RowFile:
    with RowFileWriter(to) as writer:
        for batch in batches:
            writer.write(batch)
        file = writer.close()
    assert file is not None
    return file


@pytest.fixture
def to(tmp_path: Path) -> Destination:
    return destination_in(tmp_path)


def destination_in(tmp_path: Path) -> Destination:
    return Destination(TOP_N_LISTS, SCHEMA, str(tmp_path / "top_n_lists"), {"as_of": DAY})


def test_a_file_says_what_is_in_it(to: Destination) -> None:
    file = written(to, batch_of("ana", "bo"), batch_of("zoe"))

    path = Path(to.location, file.path)
    assert path.parent.name == "as_of=2024-06-01"
    assert (file.rows, file.first_key, file.last_key) == (3, "ana", "zoe")
    assert file.size_bytes == path.stat().st_size
    rows = pq.ParquetFile(path).read()
    assert rows.column_names == ["user_id", "item_ids", "scores", "sources", "model_version"]
    assert rows["item_ids"].to_pylist() == [["tea", "pot"]] * 3
    with RowFileWriter(to) as writer:
        writer.write(batch_of())
        assert writer.close() is None, "no rows, no file"


@pytest.mark.parametrize(
    ("batches", "problem"),
    [
        ([batch_of("ana", "ana")], "user_id: two rows have one, or they are not in order"),
        ([batch_of("bo", "ana")], "two rows have one, or they are not in order"),
        ([batch_of("ana", "bo"), batch_of("bo")], "user_id: ('bo',) comes after ('bo',)"),
        ([batch_of("ana", None)], "user_id: 1 nulls"),
        (
            [batch_of("ana").select(["user_id", "item_ids", "sources", "model_version"])],
            "scores: no such column",
        ),
        (
            [batch_of("ana", version=1)],
            "model_version: expected string, found int64",
        ),
    ],
)
def test_what_breaks_the_contract_is_named_and_leaves_no_file(
    to: Destination, batches: list[pa.RecordBatch], problem: str
) -> None:
    with pytest.raises(ContractError, match=r"top_n_lists contract broken") as error:
        written(to, *batches)
    assert problem in str(error.value)
    assert list(Path(to.location).rglob("*.parquet")) == []


def test_a_task_that_fails_takes_its_file_with_it(
    to: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.lake.row_files.ROWS_PER_GROUP", 1)

    def fail() -> None:
        with RowFileWriter(to) as writer:
            writer.write(batch_of("ana"))
            assert len(list(Path(to.location).rglob("*.parquet"))) == 1
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert list(Path(to.location).rglob("*.parquet")) == []


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    from recsys.lake import Lake

    return Lake(spark, PathsConfig(root=str(tmp_path)))


@pytest.mark.spark
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_committed_files_replace_a_day_for_every_reader(
    spark: SparkSession, tmp_path: Path, scheme: str
) -> None:
    from recsys.lake import Lake

    # Delta creates no table at a URI of local files, so it is made before.
    Lake(spark, PathsConfig(root=str(tmp_path))).destination(TOP_N_LISTS, {"as_of": DAY})
    lake = Lake(spark, PathsConfig(root=str(tmp_path), lake=f"{scheme}{tmp_path}/lake"))
    other = lake.destination(TOP_N_LISTS, {"as_of": OTHER_DAY})
    lake.commit_files(other, [written(other, batch_of("old"))])
    day = lake.destination(TOP_N_LISTS, {"as_of": DAY})
    first = lake.commit_files(day, [written(day, batch_of("ana")), written(day, batch_of("bo"))])
    nobody_names = written(day, batch_of("left by a killed job"))
    second = lake.commit_files(day, [written(day, batch_of("bo", "cy"))])

    def users(**read: object) -> list[tuple[str, date]]:
        rows = lake.read(TOP_N_LISTS, **read).orderBy("as_of", "user_id").collect()  # type: ignore[arg-type]
        return [(row["user_id"], row["as_of"]) for row in rows]

    assert users() == [("bo", DAY), ("cy", DAY), ("old", OTHER_DAY)]
    assert users(version=first.version) == [("ana", DAY), ("bo", DAY), ("old", OTHER_DAY)]
    assert users(user_id="cy") == [("cy", DAY)], "no file was skipped that has it"
    assert (second.rows, second.version) == (2, first.version + 1)
    assert second.content_hash == lake.content_hash(TOP_N_LISTS, as_of=DAY)
    assert lake.read(TOP_N_LISTS, as_of=DAY).collect()[0]["scores"] == [2.0, 1.0]

    path = lake.path(TOP_N_LISTS)
    feed = lake.spark.read.option("readChangeFeed", "true").option(
        "startingVersion", second.version
    )
    changes = feed.format("delta").load(path).orderBy("_change_type", "user_id").collect()
    assert [(row["_change_type"], row["user_id"]) for row in changes] == [
        ("delete", "ana"), ("delete", "bo"), ("insert", "bo"), ("insert", "cy"),
    ]  # fmt: skip
    [said] = lake.spark.sql(f"DESCRIBE HISTORY delta.`{path}` LIMIT 1").collect()
    assert second.content_hash in said["userMetadata"]
    rust = DeltaTable(path)
    with open_lake(PathsConfig(root=str(tmp_path))) as tables:
        by_duckdb = list(tables.batches("SELECT user_id FROM top_n_lists ORDER BY user_id"))
    assert pa.Table.from_batches(by_duckdb)["user_id"].to_pylist() == ["bo", "cy", "old"]
    unneeded = rust.vacuum(0, dry_run=True, enforce_retention_duration=False, full=True)
    assert nobody_names.path in unneeded


@pytest.mark.spark
def test_a_day_of_nobody_is_empty_and_other_tables_are_refused(lake: Lake) -> None:
    day = lake.destination(TOP_N_LISTS, {"as_of": DAY})
    lake.commit_files(day, [written(day, batch_of("ana"))])
    assert lake.commit_files(day, []).rows == 0
    assert lake.read(TOP_N_LISTS).count() == 0
    with pytest.raises(ContractError, match="events is not replaced by the partition event_date"):
        lake.destination(EVENTS, {"event_date": DAY})
