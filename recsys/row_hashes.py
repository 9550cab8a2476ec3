"""The content hash of a table without a JVM: the same number from Arrow rows as ``lake.schema`` gets from Spark's.

A row's hash is Spark's ``xxhash64`` over its columns: XXH64 (Y. Collet, the xxHash specification) with seed 42 for the
first column and each column's hash as the seed of the next; a null leaves the seed as it is, an array goes element
by element, a struct field by field, a map is an array of its entries in order. Whole columns at a time with numpy,
so that a million rows take seconds, and lists of texts and numbers, which are most of what there is to hash, in
row_hashes.cpp where it has been built; DuckDB and delta-rs both hand out such batches.
"""

# Shape suffixes in this file:
#   R rows   B bytes of all texts of a column

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable
from ctypes import c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.compiled import load_library
from recsys.contracts import TableContract
from recsys.errors import ContractError

U64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

LIBRARY = Path(__file__).with_name("librowhashes.so")
VERSION = 1

SEED = np.uint64(42)
P1 = np.uint64(0x9E3779B185EBCA87)
P2 = np.uint64(0xC2B2AE3D27D4EB4F)
P1_AND_P2 = np.uint64(0x60EA27EEADC0B5D6)
P3 = np.uint64(0x165667B19E3779F9)
P4 = np.uint64(0x85EBCA77C2B2AE63)
P5 = np.uint64(0x27D4EB2F165667C5)
LONG_DIGITS = 18
"""Decimals of up to so many digits are hashed as a 64-bit number, larger ones as bytes."""
STRIPE_BYTES = 32
_MASK = (1 << 64) - 1


@functools.cache
def library(path: Path = LIBRARY) -> ctypes.CDLL | None:
    """row_hashes.cpp, compiled; None where it is missing or of another version: numpy then does its work, slowly."""
    found = load_library(path, VERSION, "hashing_in_numpy")
    if found is None:
        return None
    found.fold_texts.argtypes, found.fold_texts.restype = [c_int64, *[c_void_p] * 5], None
    found.fold_ints.argtypes, found.fold_ints.restype = [c_int64, *[c_void_p] * 3], None
    return found


class ContentHash:
    """Adds up the hashes of a table's rows, in any order and in batches of any size."""

    def __init__(self, contract: TableContract) -> None:
        self._columns = [column.name for column in contract.columns if not column.volatile]
        self._name = contract.name
        self.rows, self._sum, self._xor = 0, 0, 0

    def add(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Count in these rows; columns in any order, those that are not the contract's are left out.

        Raises:
            ContractError: a column is missing, or of a type that no contract has.
        """
        if missing := [name for name in self._columns if name not in batch.schema.names]:
            raise ContractError(f"{self._name}: no column {', '.join(missing)} to take a hash of")
        hash_R = np.full(batch.num_rows, SEED)
        for name in self._columns:
            hash_R = _fold(_whole(batch.column(name)), hash_R)
        self.rows += batch.num_rows
        self._sum += int(hash_R.view(np.int64).sum(dtype=np.int64, initial=0))
        self._xor ^= int(np.bitwise_xor.reduce(hash_R, initial=np.uint64(0)))

    @property
    def parts(self) -> tuple[int, int]:
        """Sum mod 2^64 and xor of the rows' hashes, as signed 64-bit numbers."""
        signed = np.array([self._sum & _MASK, self._xor & _MASK], np.uint64).view(np.int64)
        return int(signed[0]), int(signed[1])

    def __str__(self) -> str:
        """As ``lake.schema.content_hash``."""
        return f"{self.rows:x}-{self._sum & _MASK:016x}-{self._xor & _MASK:016x}"


def content_hash_of(contract: TableContract, batches: Iterable[pa.RecordBatch | pa.Table]) -> str:
    """The content hash of all rows of ``batches``."""
    hashed = ContentHash(contract)
    for batch in batches:
        hashed.add(batch)
    return str(hashed)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return column


def _fold(values: pa.Array, seed_R: U64) -> U64:
    """The hash of each value with its row's seed; the seed itself where the value is null."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_map(values.type):
        return _fold_places(values, _sorted_entries(values), seed_R)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return _fold_places(values, [values.values], seed_R)
    return np.where(_is_valid(values), _hash_flat(values, seed_R), seed_R)


def _fold_places(lists: pa.Array, children: list[pa.Array], seed_R: U64) -> U64:
    """Place by place, of all rows that have one at once; of a place, child by child."""
    offsets = np.asarray(lists.offsets).astype(np.int64)
    if len(children) == 1 and (kernel := library()) and _is_plain(lists, children[0]):
        return _fold_compiled(kernel, offsets, children[0], seed_R)
    lengths = np.where(_is_valid(lists), np.diff(offsets), 0)
    hash_R = seed_R.copy()
    for place in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > place)
        at = pa.array(offsets[:-1][rows] + place)
        for child in children:
            hash_R[rows] = _fold(child.take(at), hash_R[rows])
    return hash_R


def _is_plain(lists: pa.Array, child: pa.Array) -> bool:
    """No nulls, and of texts, numbered texts, int32 or float32: what row_hashes.cpp knows."""
    kind = child.type
    if pa.types.is_dictionary(kind):
        if child.dictionary.null_count:
            return False
        kind = kind.value_type
    known = pa.types.is_string(kind) or (kind == child.type and kind in {pa.int32(), pa.float32()})
    return known and not lists.null_count and not child.null_count


def _fold_compiled(
    kernel: ctypes.CDLL, offsets: npt.NDArray[np.int64], child: pa.Array, seed_R: U64
) -> U64:
    hash_R = seed_R.copy()
    rows, lists = len(hash_R), np.ascontiguousarray(offsets)
    if not pa.types.is_dictionary(child.type) and not pa.types.is_string(child.type):
        values = _numbers(child, child.type.to_pandas_dtype())
        if values.dtype == np.float32:
            values = _canonical(values)
        kernel.fold_ints(rows, lists.ctypes.data, values.ctypes.data, hash_R.ctypes.data)
        return hash_R
    numbers, texts = None, child
    if pa.types.is_dictionary(child.type):
        numbers, texts = _numbers(child.indices.cast(pa.int32()), np.int32), child.dictionary
    _, ends, data = texts.buffers()
    first = ends.address + 4 * texts.offset if ends else None
    kernel.fold_texts(
        rows, lists.ctypes.data, numbers.ctypes.data if numbers is not None else None, first,
        data.address if data else None, hash_R.ctypes.data,
    )  # fmt: skip
    return hash_R


def _sorted_entries(maps: pa.Array) -> list[pa.Array]:
    """Keys and values, the entries of each row in the order of their keys."""
    offsets = np.asarray(maps.offsets).astype(np.int64)
    row = np.zeros(len(maps.keys), dtype=np.int64)
    np.add.at(row, offsets[offsets < len(row)], 1)
    entries = pa.table({"row": np.cumsum(row), "key": maps.keys})
    order = pc.sort_indices(entries, sort_keys=[("row", "ascending"), ("key", "ascending")])
    return [maps.keys.take(order), maps.items.take(order)]


def _hash_flat(values: pa.Array, seed_R: U64) -> U64:  # noqa: PLR0911  (a line per type)
    """Of nulls, anything."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        return xxh64(values.cast(pa.large_binary()), seed_R)
    if pa.types.is_boolean(kind) or pa.types.is_int32(kind) or pa.types.is_date32(kind):
        return _hash_int(_numbers(values.cast(pa.int32()), np.int32), seed_R)
    if pa.types.is_int64(kind):
        return _hash_long(_numbers(values, np.int64), seed_R)
    if pa.types.is_timestamp(kind):
        micros = values.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
        return _hash_long(_numbers(micros, np.int64), seed_R)
    if pa.types.is_float32(kind):
        return _hash_int(_canonical(_numbers(values, np.float32)).view(np.int32), seed_R)
    if pa.types.is_float64(kind):
        return _hash_long(_canonical(_numbers(values, np.float64)).view(np.int64), seed_R)
    if pa.types.is_decimal(kind) and kind.precision <= LONG_DIGITS:
        return _hash_long(_unscaled(values), seed_R)
    raise ContractError(f"no content hash of a column of type {kind}: no contract has one")


def _is_valid(values: pa.Array) -> Bools:
    return np.asarray(values.is_valid())


def _numbers(values: pa.Array, dtype: Any) -> Any:
    filled = values.fill_null(0) if values.null_count else values
    return np.ascontiguousarray(filled.to_numpy(zero_copy_only=False), dtype=dtype)


def _canonical(numbers: Any) -> Any:
    """One zero and one NaN, as Java's floatToIntBits and Spark have them."""
    return np.where(np.isnan(numbers), numbers.dtype.type(np.nan), numbers + 0)


def _unscaled(decimals: pa.Array) -> npt.NDArray[np.int64]:
    """The low halves of the 128-bit numbers: the whole of those with few digits."""
    halves = np.frombuffer(decimals.buffers()[1], dtype="<i8")
    first = decimals.offset
    return halves[2 * first : 2 * (first + len(decimals)) : 2].copy()


def _hash_int(numbers: npt.NDArray[np.int32], seed_R: U64) -> U64:
    """Of four bytes."""
    hash_R = seed_R + P5 + np.uint64(4)
    hash_R ^= numbers.view(np.uint32).astype(np.uint64) * P1
    return _mix(_rotate(hash_R, 23) * P2 + P3)


def _hash_long(numbers: npt.NDArray[np.int64], seed_R: U64) -> U64:
    """Of eight bytes."""
    return _mix(_with_word(seed_R + P5 + np.uint64(8), numbers.view(np.uint64)))


def xxh64(texts: pa.Array, seed_R: U64) -> U64:
    """XXH64 of each of ``texts`` (large_binary) with its seed: stripes of four words, words, half a word, bytes."""
    if not len(texts):
        return seed_R
    offsets = np.frombuffer(texts.buffers()[1], dtype="<i8")[texts.offset :][: len(texts) + 1]
    data = texts.buffers()[2]
    begin_R, length_R = offsets[:-1], np.diff(offsets)
    data_B = np.zeros(
        (data.size if data else 0) + 8, dtype=np.uint8
    )  # a word may be read at the end
    data_B[: len(data_B) - 8] = np.frombuffer(data, dtype=np.uint8) if data else 0
    word_B: U64 = np.ndarray((len(data_B) - 7,), dtype="<u8", buffer=data_B.data, strides=(1,))

    hash_R = np.where(length_R >= STRIPE_BYTES, np.uint64(0), seed_R + P5)
    stripes_R = length_R // STRIPE_BYTES
    if stripes_R.any():
        long = np.flatnonzero(stripes_R)
        hash_R[long] = _hash_stripes(word_B, begin_R[long], stripes_R[long], seed_R[long])
    hash_R += length_R.astype(np.uint64)
    at_R = begin_R + stripes_R * STRIPE_BYTES
    end_R = begin_R + length_R
    for _ in range(3):
        rows = np.flatnonzero(at_R + 8 <= end_R)
        hash_R[rows] = _with_word(hash_R[rows], word_B[at_R[rows]])
        at_R[rows] += 8
    rows = np.flatnonzero(at_R + 4 <= end_R)
    half = word_B[at_R[rows]] & np.uint64(0xFFFFFFFF)
    hash_R[rows] = _rotate(hash_R[rows] ^ (half * P1), 23) * P2 + P3
    at_R[rows] += 4
    for _ in range(3):
        rows = np.flatnonzero(at_R < end_R)
        byte = data_B[at_R[rows]].astype(np.uint64)
        hash_R[rows] = _rotate(hash_R[rows] ^ (byte * P5), 11) * P1
        at_R[rows] += 1
    return _mix(hash_R)


def _hash_stripes(word_B: U64, begin_R: Any, stripes_R: Any, seed_R: U64) -> U64:
    lanes = [seed_R + P1_AND_P2, seed_R + P2, seed_R.copy(), seed_R - P1]
    for stripe in range(int(stripes_R.max())):
        rows = np.flatnonzero(stripes_R > stripe)
        at = begin_R[rows] + stripe * STRIPE_BYTES
        for n, lane in enumerate(lanes):
            lane[rows] = _rotate(lane[rows] + word_B[at + 8 * n] * P2, 31) * P1
    hash_R = sum(
        (_rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)),
        start=np.zeros_like(seed_R),
    )
    for lane in lanes:
        hash_R = (hash_R ^ (_rotate(lane * P2, 31) * P1)) * P1 + P4
    return hash_R


def _with_word(hash_R: U64, word_R: U64) -> U64:
    return _rotate(hash_R ^ (_rotate(word_R * P2, 31) * P1), 27) * P1 + P4


def _rotate(values: U64, by: int) -> U64:
    return (values << np.uint64(by)) | (values >> np.uint64(64 - by))


def _mix(hash_R: U64) -> U64:
    hash_R = (hash_R ^ (hash_R >> np.uint64(33))) * P2
    hash_R = (hash_R ^ (hash_R >> np.uint64(29))) * P3
    return hash_R ^ (hash_R >> np.uint64(32))
