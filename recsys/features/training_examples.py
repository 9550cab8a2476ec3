"""Windows of histories as fixed-width blobs.

An example has W = max_length + 1 places: a model reads places 0 to W-2 and predicts places 1 to W-1. A longer
history becomes several windows that share one event, counted from the newest, so that every event but a
user's first is predicted exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.config.shop import ShopConfig
from recsys.contracts import TRAINING_EXAMPLES
from recsys.features.numbering import with_start
from recsys.lake import apply_contract, struct_type
from recsys.lake.as_of import numbers

BYTES_PER_PLACE = 4 + 4 + 1  # int32 item number, float32 age, uint8 target
EXAMPLES_PER_FILE = 65_536
SMALLEST_NUM_ROW_GROUPS = 8
"""A set has at least so many row groups (or one per example): processes share them out."""

Batches = Iterable[pa.RecordBatch]


def count_examples(histories: DataFrame, *, max_length: int) -> int:
    """The rows that ``training_examples`` will have."""
    counted = _users(histories, max_length).agg(F.sum("num_windows").alias("num_examples")).first()
    return int(counted["num_examples"] or 0) if counted else 0


def training_examples(
    histories: DataFrame,
    vocabulary: DataFrame,
    *,
    shop: ShopConfig,
    max_length: int,
    num_examples: int,
) -> DataFrame:
    """One row per window of ``max_length + 1`` places, numbered from 0 by (hash of user_id, age of window).

    Users that are capped, or have fewer than two events, are left out. A target is an event of a target
    type with an event before it in its window. Rows come sorted by example_id, in partitions that depend on
    ``num_examples`` (see ``count_examples``) and not on the number of tasks: the same examples, the same files.
    ``vocabulary`` is the version that the histories were numbered with; a user that it does not have gets no
    user_num, and the write is refused.
    """
    users = _users(histories, max_length).withColumn("hash", F.xxhash64("user_id"))
    numbered = with_start(
        users,
        "first_example_id",
        bucket=F.shiftright("hash", 56),  # signed, as the hash: does not fall as it rises
        order_by=["hash", "user_id"],
        size=F.col("num_windows"),
    ).join(numbers(vocabulary, "user"), "user_id", "left")
    windows = numbered.select(
        "user_id", "user_num", "as_of", "first_example_id", "item_nums", "event_types", "ages_days"
    ).mapInArrow(
        _cut_windows(max_length + 1, shop.event_types("target")), struct_type(TRAINING_EXAMPLES)
    )
    file = F.floor(F.col("example_id") / EXAMPLES_PER_FILE)
    num_files = max(1, -(-num_examples // EXAMPLES_PER_FILE))
    placed = windows.repartition(num_files, file).sortWithinPartitions("as_of", "example_id")
    return apply_contract(placed, TRAINING_EXAMPLES)


def row_group_bytes(num_examples: int, *, max_length: int, wanted_rows: int) -> int:
    """Size of a row group of about ``wanted_rows`` examples, fewer in a small set."""
    rows = max(1, min(wanted_rows, num_examples // SMALLEST_NUM_ROW_GROUPS))
    return rows * (max_length + 1) * BYTES_PER_PLACE


def _users(histories: DataFrame, max_length: int) -> DataFrame:
    return histories.where(~F.col("is_capped") & (F.size("item_nums") > 1)).withColumn(
        "num_windows", F.ceil((F.size("item_nums") - 1) / max_length)
    )


def _cut_windows(width: int, target_types: Sequence[str]) -> Callable[[Batches], Batches]:
    def cut(batches: Batches) -> Batches:
        for batch in batches:
            if batch.num_rows:
                yield windows_of(batch, width, target_types)

    return cut


def windows_of(batch: pa.RecordBatch, width: int, target_types: Sequence[str]) -> pa.RecordBatch:
    """The windows of a batch of histories, newest first within a user.

    ``batch`` has user_id, user_num, as_of, first_example_id, item_nums, event_types, ages_days; every history
    has two events or more. Shapes here: E events of the batch, N windows, W places.
    """
    item_nums = batch.column("item_nums")
    offsets = item_nums.offsets.to_numpy().astype(np.int64)
    offsets -= offsets[0]  # a slice of a batch starts later; flatten() starts where the slice does
    lengths = np.diff(offsets)
    stride = width - 1
    num_windows = -(-(lengths - 1) // stride)

    user_N = np.repeat(np.arange(batch.num_rows), num_windows)
    window_N = np.arange(len(user_N)) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
    end_N = offsets[1:][user_N] - window_N * stride
    start_N = np.maximum(offsets[:-1][user_N], end_N - width)

    event_NW = end_N[:, None] + np.arange(-width, 0)[None, :]
    real_NW = event_NW >= start_N[:, None]
    event_NW[~real_NW] = 0
    # Nothing comes before it in its window, so there is nothing to predict it from.
    first_NW = event_NW == start_N[:, None]

    items_E = item_nums.flatten().to_numpy().astype("<i4")
    ages_E = batch.column("ages_days").flatten().to_numpy().astype("<f4")
    target_E = pc.is_in(
        batch.column("event_types").flatten(), value_set=pa.array(list(target_types))
    )
    target_E = target_E.to_numpy(zero_copy_only=False)
    columns: dict[str, Any] = {
        "example_id": pa.array(batch.column("first_example_id").to_numpy()[user_N] + window_N),
        "as_of": batch.column("as_of").take(pa.array(user_N)),
        "user_id": batch.column("user_id").take(pa.array(user_N)),
        "user_num": batch.column("user_num").take(pa.array(user_N)),
        "item_nums": _blobs(np.where(real_NW, items_E[event_NW], 0).astype("<i4")),
        "ages_days": _blobs(np.where(real_NW, ages_E[event_NW], 0).astype("<f4")),
        "targets": _blobs((target_E[event_NW] & real_NW & ~first_NW).astype("u1")),
        "num_events": pa.array(real_NW.sum(axis=1), pa.int32()),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _blobs(values_NW: npt.NDArray[Any]) -> pa.Array:
    """Each row's bytes as one binary value, without a Python object per row."""
    num_rows, width = values_NW.shape
    size = width * values_NW.itemsize
    offsets = np.arange(num_rows + 1, dtype=np.int32) * np.int32(size)
    data = np.ascontiguousarray(values_NW)
    return pa.Array.from_buffers(
        pa.binary(), num_rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
