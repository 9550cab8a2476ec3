"""Arrow lists -> stored lists, a whole batch at a time; no Python object per item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import ContractError


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
    # Adding zero turns -0.0, which JSON's readers may take for an integer, into 0.0.
    flat_scores = pc.add(scores.flatten().cast(pa.float32()), pa.scalar(0.0, pa.float32()))
    if flat_scores.null_count or not pc.all(pc.is_finite(flat_scores), min_count=0).as_py():
        raise ContractError("lists to publish: a score is null, infinite or not a number")
    fragments = pc.binary_join_element_wise(
        '{"item_id":', _as_json(item_ids.flatten()), ',"score":', flat_scores.cast(pa.string()),
        ',"source":', _as_json(sources.flatten()), "}", "",
    )  # fmt: skip
    offsets = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(counts, out=offsets[1:])
    texts = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), fragments), ",")
    headers = _headers(counts, offsets, pc.binary_length(fragments).to_numpy())
    return pc.binary_join_element_wise(headers, texts.cast(pa.binary()), b"")


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
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, encoded.schema) as stream:
            stream.write_batch(encoded)
        chunk = pa.array([sink.getvalue().to_pybytes()], pa.binary())
        yield pa.RecordBatch.from_arrays([chunk], ["chunk"])


def _counts(lists: pa.ListArray) -> np.ndarray[Any, Any]:
    if lists.null_count:
        raise ContractError("lists to publish: a list is null")
    return np.asarray(pc.list_value_length(lists).to_numpy(), dtype=np.int64)


def _as_json(texts: pa.StringArray) -> pa.StringArray:
    """Each text as a JSON string; escaped once per distinct text."""
    if texts.null_count:
        raise ContractError("lists to publish: an item or a source is null")
    encoded = texts.dictionary_encode()
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
