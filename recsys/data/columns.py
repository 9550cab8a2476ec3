"""The columns of a training file: what is expected of them, and how Arrow's buffers become arrays.

A packed column holds one blob of fixed width per row. Arrow keeps all blobs of a chunk in one buffer, end to end,
so a column is looked at as a matrix as it lies: no Python object per row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.errors import ContractError

# Shape suffixes in this file:
#   R rows of one read   W places of an example
Arrays = dict[str, npt.NDArray[Any]]


class Column(NamedTuple):
    name: str
    file_type: pa.DataType
    kept: np.dtype[Any]
    """Of the array in memory."""
    places: np.dtype[Any] | None = None
    """Of a packed column's places in the file."""


COLUMNS = (
    Column("example_id", pa.int64(), np.dtype(np.int64)),
    Column("user_num", pa.int32(), np.dtype(np.int64)),
    Column("item_nums", pa.binary(), np.dtype(np.int32), np.dtype("<i4")),
    Column("ages_days", pa.binary(), np.dtype(np.float32), np.dtype("<f4")),
    Column("targets", pa.binary(), np.dtype(np.bool_), np.dtype("u1")),
)
NAMES = tuple(column.name for column in COLUMNS)


class Expected(NamedTuple):
    """What the examples must fit to be of the model's vocabularies and of its width."""

    width: int
    num_items: int
    num_users: int | None


def allocate(rows: int, width: int) -> Arrays:
    """Room for ``rows`` examples; pages are touched when they are written."""
    return {
        column.name: np.empty((rows, width) if column.places else rows, dtype=column.kept)
        for column in COLUMNS
    }


def check_schema(schema: pa.Schema, file: str) -> None:
    """Refuse a file whose columns are not the contract's.

    Raises:
        ContractError: naming the file and the column, with the type expected and found.
    """
    for column in COLUMNS:
        if column.name not in schema.names:
            raise ContractError(
                f"training file {file} has no column {column.name} (expected {column.file_type}). Columns present: "
                f"{', '.join(schema.names)[:300]}: run build_training_set again"
            )
        if (found := schema.field(column.name).type) != column.file_type:
            raise ContractError(
                f"column {column.name} of training file {file}: expected {column.file_type}, found {found}: "
                "run build_training_set again"
            )


def decode(table: pa.Table, into: Arrays, expected: Expected, file: str) -> None:
    """Copy a table's columns into ``into``, which has room for exactly its rows.

    Raises:
        ContractError: a value is missing, a blob has another width, a number is beyond its vocabulary.
    """
    for column in COLUMNS:
        start = 0
        for chunk in table.column(column.name).chunks:
            out_RW = into[column.name][start : start + len(chunk)]
            ids_R = into["example_id"][start : start + len(chunk)]  # filled first
            if chunk.null_count:
                raise ContractError(
                    f"training file {file} has {chunk.null_count} rows without {column.name}: "
                    "run build_training_set again"
                )
            if column.places is None:
                out_RW[:] = chunk.to_numpy()
            elif len(chunk):
                places_RW = _matrix(chunk, column, expected.width, ids_R, file)
                if column.kept == np.bool_:
                    np.not_equal(places_RW, 0, out=out_RW)
                else:
                    out_RW[:] = places_RW
            start += len(chunk)
    _check_numbers(into, expected, file)


def _matrix(
    chunk: pa.Array, column: Column, width: int, ids_R: npt.NDArray[Any], file: str
) -> npt.NDArray[Any]:
    """A packed column's chunk as a matrix over Arrow's own memory."""
    assert column.places is not None
    _, offsets, data = chunk.buffers()
    ends = np.frombuffer(offsets, "<i4")[chunk.offset : chunk.offset + len(chunk) + 1]
    wanted = width * column.places.itemsize
    lengths_R = np.diff(ends)
    if (wrong := np.flatnonzero(lengths_R != wanted)).size:
        raise ContractError(
            f"training_examples.{column.name} of example {ids_R[wrong[0]]} has {lengths_R[wrong[0]]} bytes, "
            f"expected {wanted}: {width} places (training_set.max_length + 1) of {column.places.str}; file {file} "
            "was built with another max_length: run build_training_set again"
        )
    return np.frombuffer(data, column.places, len(chunk) * width, int(ends[0])).reshape(-1, width)


def _check_numbers(rows: Arrays, expected: Expected, file: str) -> None:
    limits = {"item": ("item_nums", 0, expected.num_items)}
    if expected.num_users is not None:
        limits["user"] = ("user_num", 1, expected.num_users)
    for kind, (name, least, most) in limits.items():
        numbers = rows[name]
        if not numbers.size or (numbers.min() >= least and numbers.max() <= most):
            continue
        first = np.argwhere((numbers < least) | (numbers > most))[0]
        raise ContractError(
            f"{kind} number {numbers[tuple(first)]} in training example {rows['example_id'][first[0]]} is not in "
            f"the {kind} vocabulary, whose numbers are 1 to {most} (file {file}): examples and vocabulary are of "
            "different versions; run build_features and build_training_set again"
        )
