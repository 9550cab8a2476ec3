from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys.candidates.blocks import (
    CountBlock,
    Floats,
    Ints,
    ScoreRow,
    best_pairs,
    best_places,
    flat,
)
from recsys.candidates.similarity import count_together
from recsys.candidates.transitions import count_steps, whole_step

few_scores = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=30)


@given(few_scores, st.integers(1, 10))
def test_the_best_come_first_and_ties_go_to_the_smaller_number(scores: list[float], n: int) -> None:
    nums = np.arange(10, 10 + len(scores)) * 3
    best = best_places(np.array(scores), nums, n)
    expected = sorted(range(len(scores)), key=lambda place: (-scores[place], nums[place]))[:n]
    assert best.tolist() == expected


def test_a_slice_of_lists_is_flattened_from_where_it_starts() -> None:
    lists = pa.array([[9, 9], [3, 4, 5], [6]], pa.list_(pa.int32())).slice(1)
    values, units = flat(lists)
    assert (values.tolist(), units.tolist()) == ([3, 4, 5, 6], [0, 0, 0, 1])


def counted(
    count: CountBlock, lists: list[list[int]], width: int, block_rows: int
) -> list[list[list[int]]]:
    values, units = flat(pa.array(lists, pa.list_(pa.int32())))
    blocks = [
        np.stack(
            [
                layer.toarray()
                for layer in count(values, units, first, min(first + block_rows, width))
            ]
        )
        for first in range(0, width, block_rows)
    ]
    return np.concatenate(blocks, axis=1).tolist()  # type: ignore[no-any-return]


WIDTH = 8
walks = st.lists(
    st.lists(st.integers(1, WIDTH - 1), min_size=1, max_size=9), min_size=1, max_size=6
)


@given(walks, st.integers(1, WIDTH), st.integers(1, 6))
def test_steps_are_counted_as_a_loop_would(
    lists: list[list[int]], block_rows: int, gaps: int
) -> None:
    weights, times = np.zeros((2, WIDTH, WIDTH), dtype=int)
    for items in lists:
        for place, item in enumerate(items):
            for gap, other in enumerate(items[place + 1 : place + 1 + gaps], 1):
                if other != item:
                    weights[item, other] += whole_step(gaps) // gap
                    times[item, other] += 1
    assert counted(count_steps(WIDTH, gaps), lists, WIDTH, block_rows) == [
        weights.tolist(),
        times.tolist(),
    ]


@given(walks, st.integers(1, WIDTH))
def test_units_with_both_items_are_counted_as_a_loop_would(
    lists: list[list[int]], block_rows: int
) -> None:
    baskets = [sorted(set(items)) for items in lists]
    together = np.zeros((WIDTH, WIDTH), dtype=int)
    for items in baskets:
        for item in items:
            together[item, items] += 1
    assert counted(count_together(WIDTH), baskets, WIDTH, block_rows) == [together.tolist()]


@pytest.mark.spark
def test_neither_blocks_nor_partitions_change_the_pairs(spark: SparkSession) -> None:
    random = np.random.default_rng(5)
    lists = [([int(n) for n in sorted(set(random.integers(1, 40, size=6)))],) for _ in range(60)]
    units = spark.createDataFrame(lists, "item_nums array<int>")

    def score(item_num: int, others: Ints, together: Ints) -> Floats:
        scores: Floats = together[0].astype(np.float64)
        return scores

    scorer: ScoreRow = score
    results = [
        best_pairs(
            units.repartition(partitions), width=40, layers=1, neighbours=5,
            count=count_together(40), score=scorer, cells=cells,
        ).orderBy("item_num", "score", "other_num").collect()
        for partitions, cells in ((1, 10_000), (3, 40 * 7), (2, 1))
    ]  # fmt: skip
    assert results[0] == results[1] == results[2]
    assert max(sum(row.item_num == item for row in results[0]) for item in range(40)) == 5
    assert all(row.item_num != row.other_num for row in results[0])
