"""Arrow's buffers as arrays, also where a chunk begins in the middle of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.columns import Expected, allocate, decode

WIDTH = 3


def table(first: int, rows: int) -> pa.Table:
    nums = first + np.arange(rows * WIDTH).reshape(rows, WIDTH)
    return pa.table({
        "example_id": pa.array(first + np.arange(rows)),
        "user_num": pa.array((first + np.arange(rows) + 1).astype(np.int32)),
        "item_nums": pa.array([row.astype("<i4").tobytes() for row in nums], pa.binary()),
        "ages_days": pa.array([row.astype("<f4").tobytes() for row in nums], pa.binary()),
        "targets": pa.array([(row % 2).astype("u1").tobytes() for row in nums], pa.binary()),
    })  # fmt: skip


@given(cuts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=4))
def test_a_table_of_slices_is_read_as_its_rows(cuts: list[tuple[int, int]]) -> None:
    slices = [table(100 * n, 10).slice(start, rows) for n, (start, rows) in enumerate(cuts)]
    chunked = pa.concat_tables(slices)
    into = allocate(chunked.num_rows, WIDTH)
    decode(chunked, into, Expected(WIDTH, 1_000, 1_000), "a.parquet")
    ids = [100 * n + start + row for n, (start, rows) in enumerate(cuts) for row in range(rows)]
    nums = [
        [100 * n + (start + row) * WIDTH + place for place in range(WIDTH)]
        for n, (start, rows) in enumerate(cuts)
        for row in range(rows)
    ]
    assert into["example_id"].tolist() == ids
    assert into["user_num"].tolist() == [number + 1 for number in ids]
    assert into["item_nums"].tolist() == nums
    assert into["ages_days"].tolist() == nums
    assert into["targets"].tolist() == [[num % 2 == 1 for num in row] for row in nums]
