"""Arrow lists -> stored lists, a whole batch at a time; no Python object per item.

By encode.cpp where it has been built, else column by column with Arrow: the same bytes, in ten times the time.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Iterator
from ctypes import c_int64, c_void_p
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from recsys.compiled import load_library
from recsys.errors import ContractError

LIBRARY = Path(__file__).with_name("libencode.so")
VERSION = 1
MOST_BYTES = 2**31 - 1
"""Of one Arrow array whose offsets are int32."""
BAD_SCORE = "lists to publish: a score is null, infinite or not a number"
NOT_UTF8 = "lists to publish: an item or a source is no UTF-8"

Offsets = np.ndarray[Any, np.dtype[np.int32]]


@functools.cache
def library(path: Path = LIBRARY) -> ctypes.CDLL | None:
    """encode.cpp, compiled; None where it is missing or of another version."""
    found = load_library(path, VERSION, "encoding_in_arrow")
    if found is None:
        return None
    found.survey.argtypes, found.survey.restype = [c_int64, c_void_p, c_void_p], None
    found.room.argtypes, found.room.restype = [c_int64] * 4, c_int64
    found.encode.argtypes = [c_int64, *[c_void_p] * 6, c_int64, c_void_p, c_void_p]
    found.encode.restype = c_int64
    return found


def encode_lists(
    item_ids: pa.ListArray, scores: pa.ListArray, sources: pa.ListArray
) -> pa.BinaryArray:
    """One stored list (see ``stored_list``) per row.

    Raises:
        ContractError: the three lists of a row differ in length, or hold a null or a score that is no number.
    """
    counts = _counts(item_ids)
    if not (np.array_equal(counts, _counts(scores)) and np.array_equal(counts, _counts(sources))):
        raise ContractError("lists to publish: item_ids, scores and sources differ in length")
    items, flat_sources = _texts(item_ids), _texts(sources)
    flat_scores = scores.flatten().cast(pa.float32())
    if flat_scores.null_count:
        raise ContractError(BAD_SCORE)
    offsets = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(counts, out=offsets[1:])
    if compiled := library():
        encoded = _encode_compiled(compiled, offsets, items, flat_scores, flat_sources)
        if encoded is not None:
            return encoded
    return _encode_columns(offsets, items, flat_scores, flat_sources)


def encode_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """For ``mapInArrow``: the keys and values of each batch as one Arrow stream in one row.

    Values that are there already (of facts) stay as they are; lists are encoded.

    Spark need not look into them, and the driver reads them back without an object per row.
    """
    for batch in batches:
        if "value" in batch.schema.names:
            values = batch["value"]
        else:
            values = encode_lists(batch["item_ids"], batch["scores"], batch["sources"])
        encoded = pa.RecordBatch.from_arrays([batch["key"], values], ["key", "value"])
        stream = _stream(encoded)
        ends = pa.py_buffer(np.array([0, stream.size], dtype=np.int32))
        chunk = pa.Array.from_buffers(pa.binary(), 1, [None, ends, stream])
        yield pa.RecordBatch.from_arrays([chunk], ["chunk"])


def keys_and_values(stream: bytes | bytearray | pa.Buffer) -> tuple[list[bytes], list[memoryview]]:
    """What ``encode_batches`` put into one row; the values are views into it."""
    batch = pa.ipc.open_stream(stream).read_next_batch()
    _, ends, data = batch["value"].buffers()
    places = np.frombuffer(ends, dtype=np.int32)[: batch.num_rows + 1].tolist()
    view = memoryview(data or b"").cast("B")
    return batch["key"].to_pylist(), [view[begin:end] for begin, end in pairwise(places)]


def _stream(batch: pa.RecordBatch) -> pa.Buffer:
    """Written once into memory of its size: a buffer that grows would be copied each time."""
    measured = pa.MockOutputStream()
    with pa.ipc.new_stream(measured, batch.schema) as stream:
        stream.write_batch(batch)
    buffer = pa.py_buffer(np.empty(measured.size(), dtype=np.uint8))
    with pa.ipc.new_stream(pa.FixedSizeBufferWriter(buffer), batch.schema) as stream:
        stream.write_batch(batch)
    return buffer


def _counts(lists: pa.ListArray) -> np.ndarray[Any, Any]:
    if lists.null_count:
        raise ContractError("lists to publish: a list is null")
    return np.asarray(pc.list_value_length(lists).to_numpy(), dtype=np.int64)


def _texts(lists: pa.ListArray) -> pa.StringArray:
    texts = lists.flatten().cast(pa.string())
    if texts.null_count:
        raise ContractError("lists to publish: an item or a source is null")
    return texts


def _encode_compiled(
    compiled: ctypes.CDLL,
    offsets: Offsets,
    items: pa.StringArray,
    scores: pa.FloatArray,
    sources: pa.StringArray,
) -> pa.BinaryArray | None:
    """None where the values might not fit into one array."""
    rows, places = len(offsets) - 1, len(items)
    item_ends, item_text = _buffers(items)
    source_ends, source_text = _buffers(sources)
    escapes = sum(_escapes(compiled, texts) for texts in (items, sources))
    num_bytes = int(item_ends[-1] - item_ends[0]) + int(source_ends[-1] - source_ends[0])
    room = compiled.room(rows, places, num_bytes, escapes)
    if room > MOST_BYTES:
        return None
    values, ends = np.empty(room, dtype=np.uint8), np.empty(rows + 1, dtype=np.int32)
    numbers = scores.to_numpy()
    bad = compiled.encode(
        rows, offsets.ctypes.data, item_ends.ctypes.data, item_text, numbers.ctypes.data,
        source_ends.ctypes.data, source_text, escapes, ends.ctypes.data, values.ctypes.data,
    )  # fmt: skip
    if bad >= 0:
        raise ContractError(BAD_SCORE)
    return pa.Array.from_buffers(
        pa.binary(), rows, [None, pa.py_buffer(ends), pa.py_buffer(values[: ends[-1]])]
    )


def _escapes(compiled: ctypes.CDLL, texts: pa.StringArray) -> int:
    """How many characters of ``texts`` JSON escapes."""
    ends, data = _buffers(texts)
    found = np.zeros(2, dtype=np.int64)
    begin, end = int(ends[0]), int(ends[-1])
    if end > begin:
        compiled.survey(end - begin, data + begin, found.ctypes.data)
    if found[1]:  # only where something is not ASCII is there anything to check
        _check_utf8(texts)
    return int(found[0])


def _buffers(texts: pa.StringArray) -> tuple[Offsets, int]:
    """Where each text ends, the first begins before them; the address that these count from."""
    _, ends, data = texts.buffers()
    if not len(texts):
        return np.zeros(1, dtype=np.int32), 0
    found = np.frombuffer(ends, dtype=np.int32)[texts.offset :][: len(texts) + 1]
    return found, data.address if data else 0


def _check_utf8(texts: pa.StringArray) -> None:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        raise ContractError(NOT_UTF8) from None


def _encode_columns(
    offsets: Offsets, items: pa.StringArray, scores: pa.FloatArray, sources: pa.StringArray
) -> pa.BinaryArray:
    # Adding zero turns -0.0, which JSON's readers may take for an integer, into 0.0.
    numbers = pc.add(scores, pa.scalar(0.0, pa.float32()))
    if not pc.all(pc.is_finite(numbers), min_count=0).as_py():
        raise ContractError(BAD_SCORE)
    fragments = pc.binary_join_element_wise(
        '{"item_id":', _as_json(items), ',"score":', numbers.cast(pa.string()),
        ',"source":', _as_json(sources), "}", "",
    )  # fmt: skip
    texts = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), fragments), ",")
    headers = _headers(np.diff(offsets), offsets, pc.binary_length(fragments).to_numpy())
    return pc.binary_join_element_wise(headers, texts.cast(pa.binary()), b"")


def _as_json(texts: pa.StringArray) -> pa.StringArray:
    """Each text as a JSON string; escaped once per distinct text."""
    encoded = texts.dictionary_encode()
    _check_utf8(encoded.dictionary)
    escaped = pa.array(
        [orjson.dumps(text).decode() for text in encoded.dictionary.to_pylist()], pa.string()
    )
    return escaped.take(encoded.indices)


def _headers(
    counts: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any]
) -> pa.BinaryArray:
    """``count | end[count]`` of every row; ``sizes`` are the bytes of each item's JSON."""
    rows = len(counts)
    with_comma = np.concatenate([[0], np.cumsum(sizes.astype(np.int64) + 1)])
    ends = with_comma[1:] - 1 - np.repeat(with_comma[offsets[:-1]], counts)
    words = np.empty(rows + len(sizes), dtype="<u4")
    heads = offsets[:-1] + np.arange(rows)
    is_end = np.ones(len(words), dtype=bool)
    is_end[heads] = False
    words[heads] = counts
    words[is_end] = ends
    byte_offsets = ((offsets + np.arange(rows + 1)) * 4).astype(np.int32)
    return pa.Array.from_buffers(
        pa.binary(), rows, [None, pa.py_buffer(byte_offsets), pa.py_buffer(words)]
    )
