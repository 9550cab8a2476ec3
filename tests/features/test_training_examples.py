from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys.config.shop import ShopConfig
from recsys.contracts import HISTORIES
from recsys.features import count_examples, row_group_bytes, training_examples
from recsys.features.training_examples import windows_of
from recsys.lake import local_rows, struct_type
from tests.features.rows import vocabulary_df

DAY = date(2024, 6, 1)


def batch_of(histories: list[list[int]]) -> pa.RecordBatch:
    """A history of item numbers; an even number is a purchase, an odd one a view; ages fall by one a place."""
    return pa.RecordBatch.from_pydict({
        "user_id": [f"u{number}" for number in range(len(histories))],
        "user_num": pa.array([7 + number for number in range(len(histories))], pa.int32()),
        "as_of": [DAY] * len(histories),
        "first_example_id": pa.array([100 * number for number in range(len(histories))], pa.int64()),
        "item_nums": pa.array(histories, pa.list_(pa.int32())),
        "event_types": [["view" if n % 2 else "purchase" for n in h] for h in histories],
        "ages_days": pa.array([[float(len(h) - i) for i in range(len(h))] for h in histories], pa.list_(pa.float32())),
    })  # fmt: skip


def unpacked(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    types = {"item_nums": "<i4", "ages_days": "<f4", "targets": "u1"}
    return [
        {k: np.frombuffer(v, types[k]).tolist() if k in types else v for k, v in row.items()}
        for row in rows.to_pylist()
    ]


def test_a_short_history_is_padded_on_the_left() -> None:
    [row] = unpacked(windows_of(batch_of([[4, 5, 6]]), 5, ["purchase"]))
    assert row["item_nums"] == [0, 0, 4, 5, 6]
    assert row["ages_days"] == [0, 0, 3, 2, 1]
    assert row["targets"] == [0, 0, 0, 0, 1]  # 4 has nothing before it, 5 is a view
    assert (row["example_id"], row["user_id"], row["user_num"]) == (0, "u0", 7)
    assert row["num_events"] == 3


def test_a_long_history_becomes_windows_from_the_newest_that_share_one_event() -> None:
    first, second = unpacked(windows_of(batch_of([[2, 4, 6, 8, 10, 12]]), 4, ["purchase"]))
    assert (first["item_nums"], first["targets"]) == ([6, 8, 10, 12], [0, 1, 1, 1])
    assert (second["item_nums"], second["targets"]) == ([0, 2, 4, 6], [0, 0, 1, 1])
    assert (first["example_id"], second["example_id"]) == (0, 1)
    assert (first["user_num"], second["user_num"]) == (7, 7)
    # the widest that still fits, and one more
    assert len(windows_of(batch_of([[2, 4, 6, 8]]), 4, ["purchase"])) == 1
    assert len(windows_of(batch_of([[2, 4, 6, 8, 10]]), 4, ["purchase"])) == 2


lists = st.lists(st.lists(st.integers(1, 50), min_size=2, max_size=23), min_size=1, max_size=6)


@given(lists, st.integers(3, 9), st.integers(0, 3))
def test_every_event_but_the_first_is_a_target_once(
    histories: list[list[int]], width: int, cut: int
) -> None:
    batch = batch_of(histories)
    part = batch.slice(min(cut, len(histories) - 1))  # a slice starts in the middle of its buffers
    kept = histories[min(cut, len(histories) - 1) :]
    found: dict[str, list[list[tuple[int, float]]]] = {}
    for row in unpacked(windows_of(part, width, ["view", "purchase"])):
        places = list(zip(row["item_nums"], row["ages_days"], row["targets"], strict=True))
        assert len(places) == width
        assert row["num_events"] == sum(item > 0 for item, _, _ in places)
        found.setdefault(row["user_id"], []).append([(i, a) for i, a, t in places if t])
    targets = [
        [pair for window in reversed(windows) for pair in window] for windows in found.values()
    ]
    assert targets == [[(num, float(len(h) - i)) for i, num in enumerate(h) if i > 0] for h in kept]


def test_row_groups_are_small_enough_to_share_out() -> None:
    assert row_group_bytes(100_000, max_length=100, wanted_rows=512) == 512 * 101 * 9
    assert row_group_bytes(80, max_length=100, wanted_rows=512) == 10 * 101 * 9
    assert row_group_bytes(0, max_length=100, wanted_rows=512) == 101 * 9


@pytest.mark.spark
def test_numbers_are_dense_and_do_not_depend_on_partitions(spark: SparkSession) -> None:
    rows = [
        (f"u{n}", DAY, None, ["i"] * n, list(range(1, n + 1)), ["purchase"] * n, [1.0] * n, n == 7)
        for n in range(1, 30)
    ]
    histories = local_rows(spark, rows, struct_type(HISTORIES))
    vocabulary = vocabulary_df(spark, DAY, ["i"], [f"u{n}" for n in range(29, 1, -1)])
    built = [
        training_examples(
            histories.repartition(parts), vocabulary, shop=ShopConfig(), max_length=10,
            num_examples=50,
        ).collect()
        for parts in (1, 5)
    ]  # fmt: skip
    # u1 is too short, u7 capped; lengths 2 to 11 make one window, 12 to 21 two, 22 to 29 three
    assert [row.example_id for row in built[0]] == list(range(9 + 2 * 10 + 3 * 8))
    assert built[0] == built[1]
    assert count_examples(histories, max_length=10) == len(built[0])
    assert {"u1", "u7"}.isdisjoint(row.user_id for row in built[0])
    assert {len(row.item_nums) for row in built[0]} == {11 * 4}
    assert all(row.user_num == 30 - int(row.user_id[1:]) for row in built[0])
