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

from recsys.lake import ROW_FILE, Destination, RowFile, RowFileWriter


def carry_over(lists: DataFrame, day: date, left_out: DataFrame, to: Destination) -> list[RowFile]:
    """The rows of ``day`` in a version of top_n_lists, but those of the users ``left_out`` (a column user_id).

    A file becomes a file, to be committed. The ids of ``left_out`` travel to every worker.
    """
    ids = left_out.select("user_id").toArrow().column("user_id").combine_chunks()
    files = [one for one in map(unquote, lists.inputFiles()) if f"/as_of={day.isoformat()}/" in one]
    if not files:
        return []

    def copy(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for path in batch.column("path").to_pylist():
                if file := copied(path, ids, to):
                    yield pa.RecordBatch.from_pylist([asdict(file)])

    paths = lists.sparkSession.createDataFrame(pa.table({"path": files}))
    rows = paths.repartition(len(files), "path").mapInArrow(copy, ROW_FILE).collect()
    return [RowFile(**row.asDict()) for row in rows]


def copied(path: str, left_out: pa.Array, to: Destination) -> RowFile | None:
    """A file with the rows of another, but those of users in ``left_out``; None where none are left."""
    system, place = url_to_fs(path)
    with system.open(place, "rb") as source, RowFileWriter(to) as writer:
        for rows in _in_order(pq.ParquetFile(source)):
            kept = rows.filter(pc.invert(pc.is_in(rows.column("user_id"), left_out)))
            for batch in kept.to_batches():
                writer.write(batch)
        return writer.close()


def _in_order(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """By row groups, which hold few rows where workers of ours wrote them; what Spark wrote is sorted first."""
    users = file.read(columns=["user_id"]).column("user_id")
    if pc.all(pc.less(users[:-1], users[1:]), min_count=0).as_py():
        yield from map(file.read_row_group, range(file.num_row_groups))
    else:
        yield file.read().sort_by("user_id")
