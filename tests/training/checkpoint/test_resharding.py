"""Rows saved by any number of ranks are read by any other, bit for bit."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.training.checkpoint import Checkpoint, blocks
from tests.training.checkpoint.saves import save, share, spread_over, tables


@settings(max_examples=60)
@given(
    rows=st.integers(1, 23), dim=st.integers(1, 4), written_by=st.integers(1, 5),
    read_by=st.integers(1, 7), block=st.sampled_from([1, 40, blocks.BLOCK_BYTES]),
)  # fmt: skip
def test_every_rank_gets_its_rows_whoever_wrote_them(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int, dim: int, written_by: int, read_by: int, block: int,
) -> None:  # fmt: skip
    folder, whole = tmp_path_factory.mktemp("resharded"), tables(rows=rows, dim=dim)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(blocks, "BLOCK_BYTES", block)  # also several blocks a file
        found = Checkpoint.open(save(folder, 1, size=written_by, whole=whole))
        for rank in range(read_by):
            for table, arrays in share(whole, rank, read_by).items():
                for array, wanted in arrays.items():
                    spread = spread_over(read_by)[table]
                    read = found.rows(table, array, rank if spread > 1 else 0, spread)
                    assert read.dtype == np.float32
                    assert read.tobytes() == wanted.numpy().tobytes()
    np.testing.assert_array_equal(found.table("item"), whole["item"]["weight"])


def test_one_two_three_one_ranks_end_where_they_began(tmp_path: Path) -> None:
    """What is read on each number of ranks is saved by these ranks."""
    whole = tables(rows=100, dim=8)
    read = {table: dict(arrays) for table, arrays in whole.items()}
    for number, size in enumerate((1, 2, 3, 1)):
        found = Checkpoint.open(save(tmp_path, number, size=size, whole=read))
        read = {
            table: {name: found.table(table, name) for name in arrays}
            for table, arrays in whole.items()
        }
    for table, arrays in whole.items():
        for name, values in arrays.items():
            assert read[table][name].tobytes() == values.tobytes()


def test_a_rank_holds_its_rows_and_a_block_or_two_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 16)
    found = Checkpoint.open(save(tmp_path, 1, whole=tables(rows=40_000, dim=16)))
    tracemalloc.start()
    try:
        mine = found.rows("item", "weight", 1, 4)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert mine.nbytes == 640_000
    assert peak < mine.nbytes + 3 * blocks.BLOCK_BYTES
