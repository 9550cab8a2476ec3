"""The loader over real Parquet files: what it gives, and what it says of a bad one."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from recsys.data import ExampleFile, Examples, read_examples
from recsys.errors import ContractError
from tests.training.worlds import LENGTH, NUM_ITEMS, cyclic_histories, write_file


def read(files: list[ExampleFile], rank: int = 0, size: int = 1, width: int = LENGTH) -> Examples:
    return read_examples(files, width=width, num_items=NUM_ITEMS, rank=rank, size=size)


def test_blobs_come_back_as_they_were_packed(tmp_path: Path) -> None:
    nums = cyclic_histories(5)
    nums[0, :3] = 0
    examples = read([write_file(tmp_path / "a.parquet", nums, first_id=10)])
    assert examples.example_id_E.tolist() == [10, 11, 12, 13, 14]
    np.testing.assert_array_equal(examples.item_nums_EW.numpy(), nums)
    assert examples.ages_days_EW[0].tolist() == [float(age) for age in range(LENGTH, 0, -1)]
    assert examples.targets_EW[0].tolist() == [False, False, False] + [True] * (LENGTH - 3)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranks_share_out_every_example_once(tmp_path: Path, size: int) -> None:
    nums = cyclic_histories(75)  # 5 row groups of 16, the last one of 11
    files = [
        write_file(tmp_path / "z.parquet", nums[:40], first_id=0),
        write_file(tmp_path / "a.parquet", nums[40:], first_id=40),
    ]
    shares = [read(files, rank, size).example_id_E.tolist() for rank in range(size)]
    assert sorted(chain.from_iterable(shares)) == list(range(75))
    assert all(share == sorted(share) for share in shares)


def test_with_fewer_row_groups_than_ranks_the_rows_are_shared_out(tmp_path: Path) -> None:
    files = [write_file(tmp_path / "a.parquet", cyclic_histories(5))]
    shares = [read(files, rank=rank, size=2).example_id_E.tolist() for rank in range(2)]
    assert shares == [[0, 2, 4], [1, 3]]


def test_a_rank_may_get_no_rows_at_all(tmp_path: Path) -> None:
    files = [write_file(tmp_path / "a.parquet", cyclic_histories(1))]
    assert [len(read(files, rank=rank, size=2)) for rank in range(2)] == [1, 0]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    file = write_file(tmp_path / "gone.parquet", cyclic_histories(4))
    (tmp_path / "gone.parquet").unlink()
    with pytest.raises(ContractError, match=r"gone\.parquet is missing.*build_training_set"):
        read([file])


def test_a_truncated_file_is_named_with_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "short.parquet"
    file = write_file(path, cyclic_histories(4))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        ContractError, match=rf"short\.parquet is truncated.*{file.size_bytes - 100} bytes"
    ):
        read([file])


def test_a_damaged_file_of_the_right_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.parquet"
    whole = write_file(tmp_path / "whole.parquet", cyclic_histories(4))
    file = write_file(path, cyclic_histories(4), first_id=4)
    path.write_bytes(bytes(file.size_bytes))
    with pytest.raises(ContractError, match=r"cannot read training examples: .*damaged\.parquet"):
        read([whole, file])


def test_a_blob_of_another_width_is_said_with_the_example(tmp_path: Path) -> None:
    file = write_file(tmp_path / "a.parquet", cyclic_histories(4), first_id=70)
    with pytest.raises(
        ContractError, match=r"item_nums of example 70 has 48 bytes, expected 52: 13 places"
    ):
        read([file], width=LENGTH + 1)


@pytest.mark.parametrize("number", [NUM_ITEMS + 1, -1])
def test_an_item_number_outside_the_vocabulary_is_said(tmp_path: Path, number: int) -> None:
    nums = cyclic_histories(4)
    nums[2, 5] = number
    file = write_file(tmp_path / "a.parquet", nums)
    with pytest.raises(
        ContractError, match=rf"item number {number} in training example 2 .* 1 to {NUM_ITEMS}"
    ):
        read([file])
