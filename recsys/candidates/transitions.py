"""What is taken up after an item."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from recsys.candidates.blocks import Batches, CountBlock, Floats, Ints, ScoreRow, best_pairs, flat
from recsys.candidates.naming import named_pairs, num_items
from recsys.contracts import TRANSITIONS


def transitions(
    sequences: DataFrame,
    vocabulary: DataFrame,
    *,
    as_of: date,
    gaps: int,
    shrinkage: float,
    neighbours: int,
) -> DataFrame:
    """``w(i, j) / (sqrt(out_i * in_j) + shrinkage)`` for j taken up after i; see ``sequences``.

    A step from one event to another counts 1/gap, where the gap in places is 1 to ``gaps``; out_i and in_j are
    the sums of w from i and to j. Steps from an item to itself do not count. The best ``neighbours`` per item,
    ties to the smaller number.
    """
    walks = sequences.where(F.size("item_nums") > 1)
    width = num_items(vocabulary) + 1
    outs, ins = _degrees(walks, width, gaps)
    pairs = best_pairs(
        walks,
        width=width,
        layers=2,
        neighbours=neighbours,
        count=count_steps(width, gaps),
        score=_normalised(outs, ins, whole_step(gaps), shrinkage),
    )
    return named_pairs(
        pairs, vocabulary, TRANSITIONS, as_of=as_of, other="next_item", counted="num_steps"
    )


def whole_step(gaps: int) -> int:
    """What a step to the next place counts, as an integer that every gap divides: sums stay exact."""
    return math.lcm(*range(1, gaps + 1))


def _steps(nums: Ints, units: Ints, gaps: int) -> Iterator[tuple[int, Ints, Ints]]:
    """(gap, item left, item taken up) of every step inside a unit, those from an item to itself left out."""
    for gap in range(1, gaps + 1):
        is_step = (units[gap:] == units[:-gap]) & (nums[gap:] != nums[:-gap])
        yield gap, nums[:-gap][is_step], nums[gap:][is_step]


def _degrees(walks: DataFrame, width: int, gaps: int) -> tuple[Ints, Ints]:
    """Sums of the steps' weights from each item and to each item; as long as the catalogue."""

    def partial(batches: Batches) -> Batches:
        sums = np.zeros((2, width), dtype=np.int64)
        for batch in batches:
            nums, units = flat(batch.column("item_nums"))
            for gap, left, taken_up in _steps(nums, units, gaps):
                weight = whole_step(gaps) // gap
                sums[0] += weight * np.bincount(left, minlength=width)
                sums[1] += weight * np.bincount(taken_up, minlength=width)
        [nums] = np.nonzero(sums.any(axis=0))
        columns = [pa.array(nums, pa.int32()), pa.array(sums[0, nums]), pa.array(sums[1, nums])]
        yield pa.RecordBatch.from_arrays(columns, names=["item_num", "out", "in"])

    summed = (
        walks.mapInArrow(partial, "item_num int, out bigint, in bigint")
        .groupBy("item_num")
        .agg(F.sum("out").alias("out"), F.sum("in").alias("in"))
        .toArrow()
    )
    degrees = np.zeros((2, width), dtype=np.int64)
    for side, name in enumerate(("out", "in")):
        degrees[side, summed.column("item_num").to_numpy()] = summed.column(name).to_numpy()
    return degrees[0], degrees[1]


def count_steps(width: int, gaps: int) -> CountBlock:
    """Layer 0: weights of the steps; layer 1: how many there were."""

    def count(nums: Ints, units: Ints, first: int, last: int) -> list[sparse.csr_matrix]:
        rows, columns, weights = [], [], []
        for gap, left, taken_up in _steps(nums, units, gaps):
            mine = (left >= first) & (left < last)
            rows.append(left[mine] - first)
            columns.append(taken_up[mine])
            weights.append(np.full(int(mine.sum()), whole_step(gaps) // gap, dtype=np.int64))
        cells = np.concatenate(rows), np.concatenate(columns)
        values = np.concatenate(weights)
        shape = (last - first, width)
        # coo to csr adds up the steps of one cell
        return [
            sparse.coo_matrix((v, cells), shape=shape).tocsr()
            for v in (values, np.ones_like(values))
        ]

    return count


def _normalised(outs: Ints, ins: Ints, whole: int, shrinkage: float) -> ScoreRow:
    def score(item_num: int, others: Ints, steps: Ints) -> Floats:
        degrees = (outs[item_num] / whole) * (ins[others] / whole)
        scores: Floats = (steps[0] / whole) / (np.sqrt(degrees) + shrinkage)
        return scores

    return score
