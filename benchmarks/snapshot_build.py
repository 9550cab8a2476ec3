"""The part of `benchmarks.snapshot` that builds: lists as Arrow batches into LMDB, beside LMDB alone."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa

from benchmarks.limits import Limits
from benchmarks.paired import Condition, alternately, show
from recsys.release.encoding import encode_batches, keys_and_values
from recsys.release.snapshot import SNAPSHOT_FOLDER
from recsys.release.snapshot_builder import Chunk, SnapshotBuilder

N, BATCH = 100, 4096
NUM_ITEMS = 20_000


def batches(users: int) -> list[pa.RecordBatch]:
    """Lists by ascending key, in Arrow as Spark hands them over."""
    draw = np.random.default_rng(3)
    ids = pa.array([f"{20_000 + num}A" for num in range(NUM_ITEMS)])
    made = []
    for start in range(0, users, BATCH):
        rows = min(BATCH, users - start)
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * N)
        nums = draw.integers(0, NUM_ITEMS, rows * N)
        scores = -np.sort(-draw.normal(3, 1, (rows, N)).astype(np.float32), axis=1).round(6)
        flat = (
            ids.take(pa.array(nums)),
            pa.array(scores.ravel()),
            pa.array(["model"] * (rows * N)),
        )
        keys = pa.array([b"%08d" % num for num in range(start, start + rows)], pa.binary())
        columns = [keys, *(pa.ListArray.from_arrays(offsets, values) for values in flat)]
        made.append(pa.RecordBatch.from_arrays(columns, ["key", "item_ids", "scores", "sources"]))
    return made


def encoded(lists: Sequence[pa.RecordBatch]) -> Iterator[Chunk]:
    """As ``lists.stored_chunks``, without Spark between."""
    for batch in encode_batches(lists):
        for stream in batch["chunk"]:
            yield keys_and_values(stream.as_buffer())


def build(folder: Path, lists: Sequence[pa.RecordBatch]) -> Path:
    """The snapshot's file."""
    shutil.rmtree(folder, ignore_errors=True)
    with SnapshotBuilder(folder, "2024-06-01-0") as builder:
        builder.add("users", encoded(lists))
        builder.finish()
    return folder / SNAPSHOT_FOLDER / "data.mdb"


def put(folder: Path, chunks: Sequence[Chunk], size_bytes: int) -> None:
    """What LMDB alone takes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with lmdb.open(
        str(folder), map_size=2 * size_bytes, lock=False, sync=False, metasync=False
    ) as env:
        for keys, values in chunks:
            with env.begin(write=True) as transaction:
                transaction.cursor().putmulti(zip(keys, values, strict=True), append=True)
        env.sync(True)


def measure_build(root: Path, users: int, limits: Limits, rounds: int) -> None:
    lists = batches(users)
    chunks = [(keys, list(map(bytes, values))) for keys, values in encoded(lists)]
    payload = sum(
        len(k) + len(v) for keys, values in chunks for k, v in zip(keys, values, strict=True)
    )
    file = build(root / "ours", lists)
    size_bytes = file.stat().st_size
    taken = alternately(
        {
            "build": lambda: build(root / "ours", lists),
            "putmulti": lambda: put(root / "theirs", chunks, size_bytes),
        },
        rounds=rounds,
    )
    show(taken)
    Condition("snapshot", "build from Arrow to putmulti of the same bytes").report(
        [theirs / ours for ours, theirs in zip(*taken.values(), strict=True)],
        users=users, keys_per_second=round(users / statistics.median(taken["build"])), limits=limits,
    )  # fmt: skip
    Condition("snapshot", "file to payload").report(
        [size_bytes / payload], megabytes=payload // 10**6, limits=limits
    )
