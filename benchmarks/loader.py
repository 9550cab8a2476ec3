"""Training examples from Parquet to torch, beside petastorm's own loader and beside raw pyarrow.

    make bench-loader ARGS=--quick
    make bench-loader

The same examples, with lists of 50 item numbers (int32), ages (float32) and targets (uint8), are written in our
packed form and as list columns. All sides read every column with two threads, from files that the machine holds in
memory, and give rates in examples per second.

- ours: read_examples and a first epoch of shuffled batches of tensors from ShareLoader, start to end; row groups of
  512, as the pipeline writes them. It keeps the whole share in memory.
- BatchedDataLoader: petastorm's, over list columns, thread pool, no shuffling. Row groups of 16,384: it is 2.5
  times as fast on them as on 512; its process pool and its early conversion to numpy are slower still.
- iter_batches: pyarrow.parquet.ParquetFile, drained into numpy without a copy: no tensors, no checks, no shuffling,
  nothing kept. Packed files with row groups of 16,384: what is fastest for it.

Printed beside, without a target: iter_batches over list columns; read_examples alone, without the epoch; a later
epoch of ours, which reads nothing.

Measure alone: beside other work the interpreter's lock costs ours more than it costs pyarrow. On a virtual machine
whose host takes free pages back, touching the 190 MB of a share anew was seen to take from 0.02 to 0.4 s.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyarrow import parquet as pq

from benchmarks.paired import Condition, alternately, arguments, ratios, show
from recsys.data import (
    EpochPosition,
    ExampleFile,
    Examples,
    Leg,
    ShareLoader,
    num_steps,
    read_examples,
)

WIDTH, WORKERS, BATCH, NUM_ITEMS = 50, 2, 8_192, 100_000
EXAMPLES_PER_FILE = 65_536
OUR_ROW_GROUP, LARGE_ROW_GROUP = 512, 16_384
CASES = {
    "petastorm BatchedDataLoader on list columns": "BatchedDataLoader",
    "ParquetFile.iter_batches": "iter_batches",
}
COLUMNS = ("example_id", "user_num", "item_nums", "ages_days", "targets")
PACKED_TYPES = {"item_nums": "<i4", "ages_days": "<f4", "targets": "u1"}

Form = Callable[[NDArray[np.generic]], pa.Array]


def packed(rows: NDArray[np.generic]) -> pa.Array:
    data = np.ascontiguousarray(rows)
    ends = np.arange(len(data) + 1, dtype=np.int32) * data.strides[0]
    return pa.Array.from_buffers(
        pa.binary(), len(data), [None, pa.py_buffer(ends), pa.py_buffer(data)]
    )


def listed(rows: NDArray[np.generic]) -> pa.Array:
    ends = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(ends, rows.reshape(-1))


def write(folder: Path, examples: int, form: Form, row_group: int) -> list[Path]:
    """Item numbers fall off as 1/number, ages rise into the past: they compress about as a shop's do."""
    folder.mkdir(parents=True)
    paths = []
    for first in range(0, examples, EXAMPLES_PER_FILE):
        random = np.random.default_rng(first)
        rows = min(EXAMPLES_PER_FILE, examples - first)
        shape = (rows, WIDTH)
        ids = np.arange(first, first + rows)
        table = pa.table({
            "example_id": ids,
            "user_num": (ids + 1).astype(np.int32),
            "item_nums": form((NUM_ITEMS ** random.random(shape)).astype(np.int32)),
            "ages_days": form(-np.sort(-random.exponential(100, shape).astype(np.float32), axis=1)),
            "targets": form((random.random(shape) < 0.9).astype(np.uint8)),
        })  # fmt: skip
        paths.append(folder / f"part-{first // EXAMPLES_PER_FILE:05d}.parquet")
        pq.write_table(table, paths[-1], row_group_size=row_group)
    return paths


def a_loader(paths: list[Path], examples: int) -> tuple[ShareLoader, EpochPosition]:
    """Ours, its share read."""
    files = [
        ExampleFile(uri=str(path), size_bytes=path.stat().st_size, first_example_id=number)
        for number, path in enumerate(paths)
    ]

    def read(rank: int, size: int) -> Examples:
        return read_examples(
            files, width=WIDTH, num_items=NUM_ITEMS, num_users=examples, rank=rank, size=size, workers=WORKERS
        )  # fmt: skip

    loader = ShareLoader(read, rank=0, size=1, seed=1)
    steps = num_steps(loader.share_size(EpochPosition(epoch=1)), BATCH)
    return loader, EpochPosition(epoch=1, legs=(Leg(world_size=1, steps=steps),))


def read_alone(paths: list[Path], examples: int) -> int:
    loader, _ = a_loader(paths, examples)
    return loader.share_size(EpochPosition(epoch=1))


def ours(paths: list[Path], examples: int) -> int:
    return an_epoch(*a_loader(paths, examples))


def an_epoch(loader: ShareLoader, position: EpochPosition) -> int:
    return sum(len(batch.example_id_B) for batch in loader.batches(position))


def batched_data_loader(paths: list[Path]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses what pyarrow deprecated
        from petastorm import make_batch_reader  # noqa: PLC0415
        from petastorm.pytorch import BatchedDataLoader  # noqa: PLC0415

        reader = make_batch_reader(
            [f"file://{path}" for path in paths], schema_fields=list(COLUMNS), workers_count=WORKERS,
            reader_pool_type="thread", shuffle_row_groups=False,
        )  # fmt: skip
        with BatchedDataLoader(reader, batch_size=BATCH) as loader:
            return sum(len(batch["example_id"]) for batch in loader)


def iter_batches(paths: list[Path]) -> int:
    read = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH, columns=COLUMNS, use_threads=True):
                for name in COLUMNS:
                    drain(name, batch.column(name))
                read += batch.num_rows
    return read


def drain(name: str, column: pa.Array) -> NDArray[np.generic]:
    """The column as numpy, a row per example, over Arrow's memory."""
    if pa.types.is_list(column.type):
        return np.asarray(column.flatten()).reshape(len(column), WIDTH)
    if not pa.types.is_binary(column.type):
        return np.asarray(column)
    _, offsets, data = column.buffers()
    first = np.frombuffer(offsets, np.int32)[column.offset]
    return np.frombuffer(data, PACKED_TYPES[name], len(column) * WIDTH, first).reshape(-1, WIDTH)


def checked(examples: int, read: Callable[..., int], *given: object) -> Callable[[], None]:
    """A side, refused where it does not give every example: a fast one must not be an incomplete one."""

    def work() -> None:
        if (found := read(*given)) != examples:
            raise RuntimeError(f"{read.__name__} gave {found} examples of {examples}")

    return work


def main(given: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--examples", type=int, help="default 400,000, 100,000 with --quick")
    asked = parser.parse_args(given)
    examples = asked.examples or (100_000 if asked.quick else 400_000)
    pa.set_cpu_count(WORKERS)
    # The workers are the two threads. OpenMP's beside them would wait for each other at every small gather.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        small_groups = write(root / "packed", examples, packed, OUR_ROW_GROUP)
        large_groups = write(root / "packed-large", examples, packed, LARGE_ROW_GROUP)
        lists = write(root / "lists", examples, listed, LARGE_ROW_GROUP)
        side = partial(checked, examples)
        taken = alternately(
            {
                "ours": side(ours, small_groups, examples),
                "BatchedDataLoader": side(batched_data_loader, lists),
                "iter_batches": side(iter_batches, large_groups),
                "iter_batches on list columns": side(iter_batches, lists),
                "read_examples alone": side(read_alone, small_groups, examples),
                "a later epoch of ours": side(an_epoch, *a_loader(small_groups, examples)),
            },
            rounds=asked.rounds,
        )
    show(taken)
    rates = {name: round(examples / statistics.median(values)) for name, values in taken.items()}
    print("examples per second:", rates)
    for case, other in CASES.items():
        Condition("loader", case).report(ratios(taken, slow=other, fast="ours"))


if __name__ == "__main__":
    main()
