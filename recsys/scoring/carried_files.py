"""Lists that stay as they are, written again for another day: file by file, without a row of Spark's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from pyspark.sql import DataFrame

from recsys.errors import MissingInput
from recsys.lake import ROW_FILE, Destination, RowFile, RowFileWriter, local_rows
from recsys.lake.row_files import ROWS_PER_GROUP
from recsys.row_hashes import xxh64
from recsys.scoring.picked_lists import Picked, PickedLists, lists_of

OUTPUT = f"{ROW_FILE}, picked string"


@dataclass(frozen=True)
class Sample:
    """Which of the users in a file are picked: the same ones wherever it is asked, others with another ``seed``."""

    share: float
    """About this part of all users, from 0 to 1: each is asked by themselves, so files have no say in it."""
    seed: int

    def of(self, user_ids: pa.ChunkedArray) -> list[str]:
        """Those whose hash is in the first ``share`` of its range; its first 53 bits, which a float holds."""
        ids = user_ids.combine_chunks()
        hash_R = xxh64(ids.cast(pa.large_binary()), np.full(len(ids), self.seed, np.uint64))
        picked_R = (hash_R >> np.uint64(11)) < self.share * 2.0**53
        found: list[str] = ids.filter(pa.array(picked_R)).to_pylist()
        return found


def carry_over(
    lists: DataFrame, day: date, left_out: pa.Array, to: Destination, sample: Sample
) -> tuple[list[RowFile], PickedLists]:
    """The rows of ``day`` in a version of top_n_lists, but those of the users ``left_out``.

    A file becomes a file, to be committed; of the users in ``sample`` the lists are told, too. Spark sends
    ``left_out`` to each worker once, and reads nothing itself.

    Raises:
        PySparkException: a task failed, or a file is gone (``increment.read_as_it_was`` knows the message).
    """
    files = [one for one in map(unquote, lists.inputFiles()) if f"/as_of={day.isoformat()}/" in one]
    if not files:
        return [], {}

    def copy(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for path in batch.column("path").to_pylist():
                told = Picked()
                if file := copied(path, left_out, to, sample, told):
                    row = asdict(file) | {"picked": told.as_json()}
                    yield pa.RecordBatch.from_pylist([row])

    # One row after the other goes to the next partition: a file each.
    paths = local_rows(lists.sparkSession, ((one,) for one in files), "path string").coalesce(1)
    rows = paths.repartition(len(files)).mapInArrow(copy, OUTPUT).collect()
    told = [row.asDict() for row in rows]
    of_picked = lists_of(one.pop("picked") for one in told)
    return [RowFile(**one) for one in told], of_picked


def copied(
    path: str,
    left_out: pa.Array,
    to: Destination,
    sample: Sample | None = None,
    told: Picked | None = None,
) -> RowFile | None:
    """A file with the rows of another, but those of users in ``left_out``; None where none are left.

    ``told`` looks at what is written, for the users in ``sample``. A column that the contract got after the file was
    written is null; Delta would read it so.

    Raises:
        ContractError: the file lacks a column that may not be null, or breaks the contract in another way.
        MissingInput: there is no such file any more.
    """
    system, place = url_to_fs(path)
    if not system.exists(place):
        raise MissingInput(f"a file of the live lists is gone: {path}")
    with system.open(place, "rb") as source, RowFileWriter(to) as writer:
        file = _with_dictionaries(source)
        users = file.read(columns=["user_id"]).column("user_id")
        here = left_out.filter(pc.is_in(left_out, users))  # a row group then asks for few
        if sample and told is not None:
            told.pick(sample.of(users.filter(pc.invert(pc.is_in(users, here)))))
        for rows in _in_groups(_in_order(file, users), here):
            for batch in _with_new_columns(rows, to).to_batches():
                if told is not None:
                    told.look_at(batch)
                writer.write(batch)
        return writer.close()


def _with_dictionaries(source: Any) -> pq.ParquetFile:
    """All texts but the key as the file's own numbers and dictionaries.

    To spell them out, hash each and number them again would be most of what a copy costs.
    """
    file = pq.ParquetFile(source)
    leaves = [file.schema.column(n) for n in range(len(file.schema))]
    texts = [one.path for one in leaves if one.physical_type == "BYTE_ARRAY"]
    numbered = [path for path in texts if path != "user_id"]
    return pq.ParquetFile(source, metadata=file.metadata, read_dictionary=numbered)


def _in_groups(parts: Iterable[pa.Table], left_out: pa.Array) -> Iterator[pa.Table]:
    """What is kept, rows for a row group at a time, with one dictionary: a second one would be spelled out."""
    held: list[pa.Table] = []
    for part in parts:
        held.append(part.filter(pc.invert(pc.is_in(part.column("user_id"), left_out))))
        if sum(map(len, held)) >= ROWS_PER_GROUP:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _in_order(file: pq.ParquetFile, users: pa.ChunkedArray) -> Iterator[pa.Table]:
    """By row groups, which hold few rows where workers of ours wrote them; what Spark wrote is sorted first."""
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
