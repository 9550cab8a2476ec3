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

TEXTS = ("item_ids.list.element", "sources.list.element", "model_version")
"""Read as they are written: numbers into a dictionary."""


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
                if file := _copied(path, ids, to):
                    yield pa.RecordBatch.from_pylist([asdict(file)])

    paths = lists.sparkSession.createDataFrame(pa.table({"path": files}))
    rows = paths.repartition(len(files), "path").mapInArrow(copy, ROW_FILE).collect()
    return [RowFile(**row.asDict()) for row in rows]


def _copied(path: str, left_out: pa.Array, to: Destination) -> RowFile | None:
    system, place = url_to_fs(path)
    with system.open(place, "rb") as source, RowFileWriter(to) as writer:
        rows = pq.ParquetFile(source, read_dictionary=TEXTS).read()
        users = rows.column("user_id")
        rows = rows.filter(pc.invert(pc.is_in(users, left_out)))
        if not pc.all(pc.less(users[:-1], users[1:]), min_count=0).as_py():  # written by Spark
            rows = rows.sort_by("user_id")
        for batch in rows.to_batches():
            writer.write(batch)
        return writer.close()
