"""Rows that Spark's workers write to Parquet themselves; ``Lake.commit_files`` puts the files into a table.

Long lists cost Spark more than they cost us: each element becomes a field of a row, is kept for the checks, hashed
and written by itself. Arrow's writer takes whole columns, and what ``Lake.replace`` checks is checked on the way.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs  # type: ignore[import-untyped]

from recsys.contracts import TableContract
from recsys.errors import ContractError
from recsys.row_hashes import ContentHash

ROWS_PER_GROUP = 8192
ROW_FILE = ", ".join((
    "path string", "size_bytes bigint", "rows bigint", "hash_sum bigint", "hash_xor bigint",
    "first_key string", "last_key string",
))  # fmt: skip
"""The fields of ``RowFile`` as columns of Spark's."""


@dataclass(frozen=True)
class Destination:
    """A partition of a table that workers write the rows of; small, it travels to them."""

    contract: TableContract
    schema: pa.Schema
    """Of the contract."""
    location: str
    partition: Mapping[str, date]

    @property
    def values(self) -> dict[str, str]:
        """Of the partition's columns, as Delta has them."""
        return {name: day.isoformat() for name, day in self.partition.items()}

    @property
    def folder(self) -> str:
        """Below ``location``, as Delta names it."""
        return "/".join(f"{name}={value}" for name, value in self.values.items())

    @property
    def key(self) -> tuple[str, ...]:
        """What, within the partition, no two rows share."""
        return tuple(name for name in self.contract.key if name not in self.partition)


@dataclass(frozen=True)
class RowFile:
    """A file that was written whole, and what is in it."""

    path: str
    """Relative to the table."""
    size_bytes: int
    rows: int
    hash_sum: int
    """Of the rows' hashes mod 2^64, signed (``recsys.row_hashes``)."""
    hash_xor: int
    first_key: str
    """The first column of the key in the first row, and in the last one."""
    last_key: str

    def as_added(self, destination: Destination) -> dict[str, Any]:
        """The fields of ``add`` in the Delta protocol."""
        key = destination.key[0]
        found = {
            "numRecords": self.rows, "minValues": {key: self.first_key},
            "maxValues": {key: self.last_key}, "nullCount": {key: 0},
        }  # fmt: skip
        return {
            "path": self.path, "size": self.size_bytes, "modificationTime": int(time.time() * 1000),
            "dataChange": True, "partitionValues": destination.values, "stats": json.dumps(found),
        }  # fmt: skip


class RowFileWriter:
    """Writes the rows of one task, which come in the order of the key; a file that is not closed is removed.

    Checked: columns and types, no null where none may be, and that the key rises, so that no row comes twice.
    That tasks share no key is the caller's to see to, who spreads rows by it; so are the contract's CHECKs.
    A dictionary may stand for a column, or for the elements of a list: Arrow writes its numbers as they are.
    """

    def __init__(self, destination: Destination) -> None:
        self._to = destination
        self._partition = [destination.schema.field(name) for name in destination.partition]
        self._wanted = [one for one in destination.schema if one.name not in destination.partition]
        self._files, root = url_to_fs(destination.location)
        self._path = f"{destination.folder}/part-{uuid.uuid4().hex}.parquet"
        self._whole_path = f"{root.rstrip('/')}/{self._path}"
        self._hash = ContentHash(destination.contract)
        self._held: list[pa.RecordBatch] = []
        self._first: str | None = None
        self._last: tuple[Any, ...] = ()
        self._file: Any = None
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        if kind is None or self._writer is None:
            return
        for one in (self._writer, self._file):  # either may want to write, to a disk that is full
            with suppress(OSError):
                one.close()
        self._files.rm_file(self._whole_path)

    def write(self, batch: pa.RecordBatch) -> None:
        """Rows whose keys come after those written before; all columns but the partition's, in any order.

        Raises:
            ContractError: a check failed.
        """
        if not batch.num_rows:
            return
        batch = batch.select([one.name for one in self._wanted if one.name in batch.schema.names])
        self._check(batch)
        self._hash.add(self._with_partition(batch))
        self._held.append(batch)
        if sum(one.num_rows for one in self._held) >= ROWS_PER_GROUP:
            self._write_group()

    def close(self) -> RowFile | None:
        """The file, on disk; None where no row came."""
        self._write_group()
        if self._writer is None or self._first is None:
            return None
        self._writer.close()
        self._file.flush()
        if hasattr(self._file, "fileno"):
            os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        size = self._files.size(self._whole_path)
        keys = (self._first, str(self._last[0]))
        return RowFile(self._path, size, self._hash.rows, *self._hash.parts, *keys)

    def _write_group(self) -> None:
        if not self._held:
            return
        rows = pa.Table.from_batches(self._held)
        if self._writer is None:
            self._files.makedirs(os.path.dirname(self._whole_path), exist_ok=True)
            self._file = self._files.open(self._whole_path, "wb")
            # A float is hardly ever met twice: to look for it costs more than to write it.
            leaves = _leaves(rows.schema).items()
            numbered = [path for path, kind in leaves if not pa.types.is_floating(kind)]
            self._writer = pq.ParquetWriter(
                self._file, rows.schema, compression="snappy", use_dictionary=numbered,
                store_schema=False, write_statistics=list(self._to.key),
            )  # fmt: skip
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self._held = []

    def _with_partition(self, batch: pa.RecordBatch) -> pa.Table:
        rows = pa.Table.from_batches([batch])
        for column in self._partition:
            value = pa.scalar(self._to.partition[column.name], column.type)
            rows = rows.append_column(column, pa.repeat(value, batch.num_rows))
        return rows

    def _order(self, batch: pa.RecordBatch) -> list[str]:
        """What is wrong with the order of the keys, which are not null; remembers the last one."""
        names = ", ".join(self._to.key)
        columns = [batch.column(name) for name in self._to.key]
        first, last = (tuple(c[at].as_py() for c in columns) for at in (0, -1))
        problems = []
        if not pc.all(_rises(columns), min_count=0).as_py():
            problems.append(f"{names}: two rows have one, or they are not in order")
        if self._first is not None and first <= self._last:
            problems.append(f"{names}: {first} comes after {self._last}")
        self._first = first[0] if self._first is None else self._first
        self._last = last
        return problems

    def _check(self, batch: pa.RecordBatch) -> None:
        problems = []
        for wanted in self._wanted:
            if wanted.name not in batch.schema.names:
                problems.append(f"{wanted.name}: no such column")
                continue
            column = batch.column(wanted.name)
            if _without_dictionary(column.type) != _without_dictionary(wanted.type):
                problems.append(f"{wanted.name}: expected {wanted.type}, found {column.type}")
            elif not wanted.nullable and column.null_count:
                problems.append(f"{wanted.name}: {column.null_count} nulls")
        if not problems:
            problems += self._order(batch)
        if problems:
            name = self._to.contract.name
            raise ContractError(f"{name} contract broken:\n  " + "\n  ".join(problems))


def _rises(columns: list[pa.Array]) -> pa.BooleanArray:
    """Of each row but the first, whether it comes after the one before it, by the first column, then the next."""
    before, after = columns[0][:-1], columns[0][1:]
    rises = pc.less(before, after)
    if len(columns) == 1:
        return rises
    return pc.or_(rises, pc.and_(pc.equal(before, after), _rises(columns[1:])))


def _without_dictionary(kind: pa.DataType) -> pa.DataType:
    """The type of the values; names and nullability of list elements aside."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_list(kind):
        return pa.list_(_without_dictionary(kind.value_type))
    return kind


def _leaves(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Of the columns as Parquet has them: path -> type."""
    return dict(
        (f"{one.name}.list.element", one.type.value_type) if pa.types.is_list(one.type) else (one.name, one.type)
        for one in schema
    )  # fmt: skip
