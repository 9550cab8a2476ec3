"""Item-by-item counts in blocks of rows: each task adds up a few rows of the matrix and keeps their best columns.

A shuffle of pairs would move d^2 rows for a unit of d items; here a unit's list goes once to every block that
it touches, at most d times, and the pairs exist only as counts in one dense block. Counts are integers, so the
order of addition does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse

CELLS_PER_BLOCK = 16_000_000
"""Of 8 bytes each, over all layers: what one Python worker holds."""

PAIRS_SCHEMA = "item_num int, other_num int, score double, count bigint"
ROWS_PER_BATCH = 50_000

Batches = Iterable[pa.RecordBatch]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
# Item numbers of a batch's units, one after the other, and their unit (0, 1, …) -> rows [first, last) of the
# matrix, sparse, one matrix per layer.
CountBlock = Callable[[Ints, Ints, int, int], list[sparse.csr_matrix]]
# A row's item number, its columns, their counts [layers, columns] -> their scores. The last layer is what is
# reported as the count.
ScoreRow = Callable[[int, Ints, Ints], Floats]


def best_pairs(
    units: DataFrame,
    *,
    width: int,
    layers: int,
    neighbours: int,
    count: CountBlock,
    score: ScoreRow,
    cells: int = CELLS_PER_BLOCK,
) -> DataFrame:
    """The ``neighbours`` best columns of each row, as (item_num, other_num, score, count).

    ``units`` has ``item_nums`` array<int>, numbers from 1 to ``width`` - 1. ``count`` gives a batch's share of
    the rows of a block; shares are added. An item is never paired with itself; ties go to the smaller number.
    """
    block_rows = max(1, min(width, cells // (width * layers)))
    block_of = F.transform("item_nums", lambda num: F.floor(num / block_rows).cast("int"))
    routed = (
        units.select("item_nums", F.explode(F.array_distinct(block_of)).alias("block"))
        .repartition("block")
        .sortWithinPartitions("block")
    )

    def rows(batches: Batches) -> Batches:
        for block, counts in _add_up(batches, (layers, block_rows, width), count):
            yield from _best_of_block(counts, block * block_rows, neighbours, score)

    return routed.mapInArrow(rows, PAIRS_SCHEMA)


def flat(item_nums: pa.Array) -> tuple[Ints, Ints]:
    """A list column as its values and the row of each value."""
    lengths = np.diff(item_nums.offsets.to_numpy())
    values = item_nums.flatten().to_numpy().astype(np.int64)
    return values, np.repeat(np.arange(len(lengths)), lengths)


def _add_up(
    batches: Batches, shape: tuple[int, int, int], count: CountBlock
) -> Iterator[tuple[int, Ints]]:
    """(block, its counts [layers, rows, columns]), block by block; the array is used again for the next."""
    _, block_rows, width = shape
    counts: Ints | None = None
    current = -1
    for batch in batches:
        blocks = batch.column("block").to_numpy()
        edges = np.flatnonzero(np.diff(blocks)) + 1  # sorted, so each block is one run
        for start, stop in zip([0, *edges], [*edges, len(blocks)], strict=True):
            if start == stop:
                continue
            block = int(blocks[start])
            if counts is None:
                counts = np.zeros(shape, dtype=np.int64)
            elif block != current:
                yield current, counts
                counts[:] = 0
            current = block
            values, units = flat(batch.column("item_nums").slice(start, stop - start))
            first = block * block_rows
            for layer, share in enumerate(
                count(values, units, first, min(first + block_rows, width))
            ):
                cells = share.tocoo()  # each cell once
                counts[layer, cells.row, cells.col] += cells.data
    if counts is not None:
        yield current, counts


def _best_of_block(counts: Ints, first: int, neighbours: int, score: ScoreRow) -> Batches:
    parts: list[tuple[Ints, Ints, Floats, Ints]] = []
    waiting = 0
    for row in range(counts.shape[1]):
        item_num = first + row
        others = np.flatnonzero(counts[-1, row])
        others = others[others != item_num]
        if not len(others):
            continue
        cells = counts[:, row, others]
        scores = score(item_num, others, cells)
        best = best_places(scores, others, neighbours)
        parts.append((np.full(len(best), item_num), others[best], scores[best], cells[-1, best]))
        waiting += len(best)
        if waiting >= ROWS_PER_BATCH:
            yield _pairs(parts)
            parts, waiting = [], 0
    if parts:
        yield _pairs(parts)


def best_places(scores: Floats, nums: Ints, n: int) -> Ints:
    """Where the ``n`` highest scores are, best first, ties by the smaller number."""
    places = np.arange(len(scores))
    if len(scores) > n:
        smallest = np.partition(scores, len(scores) - n)[len(scores) - n]
        places = np.flatnonzero(scores >= smallest)  # more than n where the last place is tied
    order = np.lexsort((nums[places], -scores[places]))
    best: Ints = places[order[:n]]
    return best


def _pairs(parts: list[tuple[Ints, Ints, Floats, Ints]]) -> pa.RecordBatch:
    item, other, score, count = (np.concatenate(column) for column in zip(*parts, strict=True))
    arrays: list[Any] = [
        pa.array(item, pa.int32()), pa.array(other, pa.int32()), pa.array(score), pa.array(count, pa.int64()),
    ]  # fmt: skip
    return pa.RecordBatch.from_arrays(arrays, names=["item_num", "other_num", "score", "count"])
