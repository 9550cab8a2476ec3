"""Lists that stay as they are, written again for another day: file by file, without a row of Spark's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import date
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.lake import ROW_FILE, Destination, RowFile, RowFileWriter


def carry_over(lists: DataFrame, day: date, left_out: DataFrame, to: Destination) -> list[RowFile]:
    """The rows of ``day`` in a version of top_n_lists, but those of the users ``left_out`` (a column user_id).

    A file becomes a file, to be committed. Each worker gets the ids that its files hold, and nobody all of them.
    """
    files = [one for one in map(unquote, lists.inputFiles()) if f"/as_of={day.isoformat()}/" in one]
    if not files:
        return []

    def copy(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for path, ids in zip(batch.column("path"), batch.column("ids"), strict=True):
                if file := copied(unquote(path.as_py()), ids.values, to):
                    yield pa.RecordBatch.from_pylist([asdict(file)])

    by_file = _ids_by_file(lists.where(F.col("as_of") == F.lit(day)), left_out)
    rows = by_file.repartition(len(files), "path").mapInArrow(copy, ROW_FILE).collect()
    return [RowFile(**row.asDict()) for row in rows]


def _ids_by_file(lists: DataFrame, left_out: DataFrame) -> DataFrame:
    """(path, ids): a row per file, ``ids`` empty where none of ``left_out`` is in it."""
    users = lists.select(F.col("_metadata.file_path").alias("path"), "user_id")
    marked = left_out.select("user_id", F.col("user_id").alias("id"))
    joined = users.join(marked, "user_id", "left")
    return joined.groupBy("path").agg(F.collect_list("id").alias("ids"))


def copied(path: str, left_out: pa.Array, to: Destination) -> RowFile | None:
    """A file with the rows of another, but those of users in ``left_out``; None where none are left.

    A column that the contract got after the file was written is null; Delta would read it so.

    Raises:
        ContractError: the file lacks a column that may not be null, or breaks the contract in another way.
    """
    system, place = url_to_fs(path)
    with system.open(place, "rb") as source, RowFileWriter(to) as writer:
        for rows in _in_order(pq.ParquetFile(source)):
            kept = rows.filter(pc.invert(pc.is_in(rows.column("user_id"), left_out)))
            for batch in _with_new_columns(kept, to).to_batches():
                writer.write(batch)
        return writer.close()


def _in_order(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """By row groups, which hold few rows where workers of ours wrote them; what Spark wrote is sorted first."""
    users = file.read(columns=["user_id"]).column("user_id")
    if pc.all(pc.less(users[:-1], users[1:]), min_count=0).as_py():
        yield from map(file.read_row_group, range(file.num_row_groups))
    else:
        yield file.read().sort_by("user_id")


def _with_new_columns(rows: pa.Table, to: Destination) -> pa.Table:
    for column in to.schema:
        is_new = column.name not in rows.schema.names and column.name not in to.partition
        if is_new and column.nullable:
            rows = rows.append_column(column, pa.nulls(len(rows), column.type))
    return rows
