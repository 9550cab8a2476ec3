from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.columns import Column
from recsys.contracts import DATA_QUALITY, HISTORIES, RELEASES, TABLES, VOCABULARIES, TableContract
from recsys.errors import ContractError, MissingInput
from recsys.lake import Lake, local_rows, struct_type
from recsys.locks import exclusive
from tests.kills import newest_version

pytestmark = pytest.mark.spark
DAY = date(2024, 6, 1)


def vocabulary_df(
    spark: SparkSession, *rows: tuple[str, int | None], version: date = DAY
) -> DataFrame:
    schema = "kind string, version date, id string, num int"
    return local_rows(spark, [("item", version, id_, num) for id_, num in rows], schema)


def commit(lake: Lake, contract: TableContract, version: int) -> dict[str, Any]:
    """The actions of one commit, by kind (the last of each kind)."""
    path = Path(lake.path(contract)) / "_delta_log" / f"{version:020}.json"
    actions: dict[str, Any] = {}
    for line in path.read_text().splitlines():
        actions |= json.loads(line)
    return actions


def test_replacing_twice_gives_the_same_table(spark: SparkSession, lake: Lake) -> None:
    where = {"version": DAY}
    other = vocabulary_df(spark, ("old", 1), version=date(2024, 5, 1))
    lake.replace(other, VOCABULARIES, {"version": date(2024, 5, 1)})
    first = lake.replace(vocabulary_df(spark, ("a", 1), ("b", 2)), VOCABULARIES, where)
    # another order and another number of partitions: the same content
    second = lake.replace(
        vocabulary_df(spark, ("b", 2), ("a", 1)).repartition(3), VOCABULARIES, where
    )

    assert (first.rows, first.content_hash) == (second.rows, second.content_hash)
    assert second.version == first.version + 1
    assert sorted((row.id, row.num) for row in lake.read(VOCABULARIES).collect()) == [
        ("a", 1), ("b", 2), ("old", 1)
    ]  # fmt: skip
    now = lake.read(VOCABULARIES).where(F.col("version") == DAY)
    third = lake.replace(now, VOCABULARIES, where)  # a table may be made from itself
    assert third.content_hash == first.content_hash


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 1), ("a", 2)], r"key \{'kind': 'item', .*'id': 'a'\} 2 times"),
        ([("a", None)], "num: 1 nulls"),
        ([("a", 0)], "num_from_one"),
        ([("a", 1)], "1 rows lie outside what this write replaces"),
    ],
    ids=["repeated-key", "null", "check", "other-partition"],
)
def test_a_broken_row_is_refused_and_the_table_is_as_before(
    spark: SparkSession, lake: Lake, rows: list[tuple[str, int | None]], message: str
) -> None:
    written = lake.replace(vocabulary_df(spark, ("kept", 7)), VOCABULARIES, {"version": DAY})
    where = {"version": date(2024, 6, 2) if "outside" in message else DAY}

    with pytest.raises(Exception, match=message) as raised:
        lake.replace(vocabulary_df(spark, *rows), VOCABULARIES, where)

    assert message == "num_from_one" or isinstance(raised.value, ContractError)
    assert lake.version(VOCABULARIES) == written.version
    assert lake.content_hash(VOCABULARIES) == written.content_hash


def test_columns_that_differ_are_all_named(spark: SparkSession, lake: Lake) -> None:
    with pytest.raises(
        ContractError, match=r"(?s)num: expected int, found bigint.*Columns present"
    ) as raised:
        lake.replace(vocabulary_df(spark).withColumn("num", F.lit(1)).drop("id")
                     .withColumn("num", F.lit(1).cast("bigint")), VOCABULARIES, {"version": DAY})  # fmt: skip
    assert "id: expected string, found no such column" in str(raised.value)
    with pytest.raises(MissingInput, match="table vocabularies does not exist"):
        lake.read(VOCABULARIES)


def test_every_table_can_be_read_by_others_and_explains_itself(lake: Lake) -> None:
    for contract in TABLES.values():
        lake.create(contract)
        first = commit(lake, contract, 0)
        assert first["protocol"]["minReaderVersion"] == 1, contract.name
        settings = first["metaData"]["configuration"]
        assert settings["delta.enableChangeDataFeed"] == "true"
        assert settings["delta.enableInCommitTimestamps"] == "true"
        assert first["commitInfo"]["inCommitTimestamp"] > 0
        assert {f"delta.constraints.{name}" for name in contract.checks} <= set(settings)
        fields = {
            field["name"]: field
            for field in json.loads(first["metaData"]["schemaString"])["fields"]
        }
        assert {name: field["metadata"]["comment"] for name, field in fields.items()} == {
            column.name: column.meaning for column in contract.columns
        }
        assert {name for name, field in fields.items() if not field["nullable"]} == {
            column.name for column in contract.columns if column.required
        }
        assert first["metaData"]["partitionColumns"] == list(contract.partitioned_by)


def test_a_contract_may_grow_by_a_nullable_column(spark: SparkSession, lake: Lake) -> None:
    rows = vocabulary_df(spark, ("a", 1))
    lake.replace(rows, VOCABULARIES, {"version": DAY})
    added = Column("note", "string", "What's written beside it")
    grown = dataclasses.replace(VOCABULARIES, columns=(*VOCABULARIES.columns, added))

    later = date(2024, 6, 2)
    lake.replace(
        vocabulary_df(spark, ("b", 2), version=later).withColumn("note", F.lit("new")),
        grown,
        {"version": later},
    )

    assert {(row.id, row.note) for row in lake.read(grown).collect()} == {("a", None), ("b", "new")}
    [field] = [field for field in lake.read(grown).schema if field.name == "note"]
    assert field.metadata["comment"] == "What's written beside it"
    required = dataclasses.replace(
        grown, columns=(*grown.columns, Column("must", "int", "", required=True))
    )
    with pytest.raises(ContractError, match=r"lacks the required columns \['must'\]"):
        lake.replace(
            rows.withColumns({"note": F.lit(""), "must": F.lit(1)}), required, {"version": DAY}
        )


def test_row_groups_are_as_small_as_asked(spark: SparkSession, lake: Lake) -> None:
    blob = F.sha2(F.col("id").cast("string"), 256)
    rows = spark.range(4000, numPartitions=1).select(
        F.lit("item").alias("kind"), F.lit(DAY).alias("version"), blob.alias("id"),
        (F.col("id") + 1).cast("int").alias("num"),
    )  # fmt: skip
    lake.replace(rows, VOCABULARIES, {"version": DAY}, row_group_bytes=500 * 70)
    [file] = Path(lake.path(VOCABULARIES)).glob("*/*.parquet")
    groups = pq.ParquetFile(file).metadata
    sizes = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
    assert max(sizes) < 1000 and len(sizes) >= 5
    lake.replace(rows, VOCABULARIES, {"version": DAY})  # the limit is that write's alone
    [other] = set(Path(lake.path(VOCABULARIES)).glob("*/*.parquet")) - {file}
    assert pq.ParquetFile(other).metadata.num_row_groups == 1


def test_wall_clocks_are_left_out_of_content_hashes(spark: SparkSession, lake: Lake) -> None:
    def release(at: datetime, action: str) -> DataFrame:
        row = ("r1", DAY, action, at, "m", 0, "because", "{}")
        return local_rows(spark, [row], struct_type(RELEASES))

    first = lake.append(release(datetime(2024, 6, 1, 9), "published"), RELEASES)
    second = lake.append(release(datetime(2024, 6, 2, 9), "published"), RELEASES)
    third = lake.append(release(datetime(2024, 6, 2, 9), "pinned"), RELEASES)
    assert first.content_hash == second.content_hash != third.content_hash
    assert lake.read(RELEASES).count() == 3
    assert lake.read(RELEASES, version=first.version).count() == 1
    assert lake.read(RELEASES, action="pinned").count() == 1


def test_what_was_never_written_reads_as_empty_where_that_is_asked_for(lake: Lake) -> None:
    assert lake.read_or_empty(HISTORIES).count() == 0
    assert lake.read_or_empty(DATA_QUALITY, run_date=DAY).columns == list(DATA_QUALITY.column_names)


def test_a_commit_is_made_while_the_tables_lock_is_held(
    spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/lake/test_locks.py shows what the lock prevents."""
    held: list[tuple[str, int, int]] = []

    @contextmanager
    def watched(path: Path, *, wait: bool, what: str) -> Iterator[None]:
        assert wait, "a writer waits for its turn"
        with exclusive(path, wait=wait, what=what):
            before = newest_version(Path(lake.path(VOCABULARIES)))
            yield
            held.append((path.name, before, newest_version(Path(lake.path(VOCABULARIES)))))

    monkeypatch.setattr("recsys.lake.tables.exclusive", watched)
    written = lake.replace(vocabulary_df(spark, ("a", 1)), VOCABULARIES, {"version": DAY})
    assert held == [("table-vocabularies.lock", -1, written.version)]


def test_a_write_replaces_what_the_contract_says(spark: SparkSession, lake: Lake) -> None:
    with pytest.raises(ContractError, match="replaces the rows of a version, not of a kind"):
        lake.replace(vocabulary_df(spark, ("a", 1)), VOCABULARIES, {"kind": "item"})


def test_several_days_are_replaced_in_one_commit(spark: SparkSession, lake: Lake) -> None:
    may, june = date(2024, 5, 1), date(2024, 6, 1)
    kept = lake.replace(vocabulary_df(spark, ("old", 1), version=date(2024, 4, 1)), VOCABULARIES,
                        {"version": date(2024, 4, 1)})  # fmt: skip
    lake.replace(vocabulary_df(spark, ("gone", 9), version=may), VOCABULARIES, {"version": may})
    rows = vocabulary_df(spark, ("a", 1), version=may).union(
        vocabulary_df(spark, ("b", 1), version=june)
    )
    written = lake.replace(rows, VOCABULARIES, {"version": (may, june)})
    assert written.version == kept.version + 2
    assert sorted((row.version, row.id) for row in lake.read(VOCABULARIES).collect()) == [
        (date(2024, 4, 1), "old"), (may, "a"), (june, "b")
    ]  # fmt: skip
