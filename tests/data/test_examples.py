"""The loader over real Parquet files: what it gives, and what it says of a bad one."""

from __future__ import annotations

import threading
import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data import ExampleFile, Examples, read_examples
from recsys.errors import ContractError
from tests.training.worlds import LENGTH, NUM_ITEMS, cyclic_histories, write_file


def read(files: list[ExampleFile], rank: int = 0, size: int = 1, width: int = LENGTH) -> Examples:
    return read_examples(files, width=width, num_items=NUM_ITEMS, rank=rank, size=size)


def rewritten(file: ExampleFile, table: pa.Table) -> ExampleFile:
    """The file with other contents, as the table's log knows it."""
    assert file.path
    pq.write_table(table, file.path, row_group_size=16)
    return file.model_copy(update={"size_bytes": file.path.stat().st_size})


def changed(file: ExampleFile, column: str, values: Any) -> ExampleFile:
    assert file.path
    table = pq.read_table(file.path, partitioning=None)
    place = table.schema.get_field_index(column)
    return rewritten(file, table.set_column(place, column, values))


def test_blobs_come_back_as_they_were_packed(tmp_path: Path) -> None:
    nums = cyclic_histories(5)
    nums[0, :3] = 0
    examples = read([write_file(tmp_path / "a.parquet", nums, first_id=10)])
    assert examples.example_id_E.tolist() == [10, 11, 12, 13, 14]
    np.testing.assert_array_equal(examples.item_nums_EW.numpy(), nums)
    assert examples.user_num_E.tolist() == [11, 12, 13, 14, 15]
    assert [str(column.dtype) for column in examples] == [
        "torch.int64", "torch.int64", "torch.int32", "torch.float32", "torch.bool"
    ]  # fmt: skip
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


@pytest.mark.parametrize("rows_per_read", [1, 40, 10_000])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_neither_workers_nor_the_size_of_a_read_change_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, rows_per_read: int
) -> None:
    from recsys.data import share_reader  # it imports petastorm

    monkeypatch.setattr(share_reader, "ROWS_PER_READ", rows_per_read)
    nums = cyclic_histories(300)
    files = [
        write_file(tmp_path / "z.parquet", nums[:170], first_id=0),
        write_file(tmp_path / "a.parquet", nums[170:], first_id=170),
    ]
    examples = read_examples(files, width=LENGTH, num_items=NUM_ITEMS, workers=workers)
    assert examples.example_id_E.tolist() == list(range(300))
    np.testing.assert_array_equal(examples.item_nums_EW.numpy(), nums)
    odd = read_examples(files, width=LENGTH, num_items=NUM_ITEMS, rank=1, size=2, workers=workers)
    np.testing.assert_array_equal(odd.item_nums_EW.numpy(), nums[odd.example_id_E.numpy()])


def test_row_groups_are_read_together_within_a_file_up_to_a_limit() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from recsys.data.share_reader import spans
    paths, rows = ["z", "z", "z", "z", "a", "a"], [16, 16, 16, 50, 16, 3]
    assert spans(paths, rows, 40) == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert spans(paths, rows, 1) == [(number, number + 1) for number in range(6)]
    assert spans(paths, rows, 1_000) == [(0, 4), (4, 6)]


def test_examples_come_in_the_order_of_their_ids_whatever_that_of_the_files(tmp_path: Path) -> None:
    nums = cyclic_histories(40)
    files = [
        write_file(tmp_path / "a.parquet", nums[20:], first_id=20),
        write_file(tmp_path / "b.parquet", nums[:20], first_id=0),
    ]
    examples = read(files)
    assert examples.example_id_E.tolist() == list(range(40))
    np.testing.assert_array_equal(examples.item_nums_EW.numpy(), nums)


def test_a_path_may_have_what_a_url_has_not(tmp_path: Path) -> None:
    file = write_file(tmp_path / "as_of=2024-06-01" / "a #1?.parquet", cyclic_histories(4))
    assert len(read([file])) == 4


def test_reads_that_are_handed_out_late_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """petastorm's pool says that there is no more where its last look at the workers came too early."""
    from petastorm.workers_pool.ventilator import ConcurrentVentilator

    from recsys.data import share_reader

    class Late(ConcurrentVentilator):  # type: ignore[misc]
        handed_out = False

        def start(self) -> None:
            """Not yet: between the pool's look at its workers and its question whether more will come."""

        def completed(self) -> bool:
            if threading.current_thread() is threading.main_thread() and not self.handed_out:
                self.handed_out = True
                self._ventilate()
            return bool(super().completed())

    monkeypatch.setattr(share_reader, "ConcurrentVentilator", Late)
    nums = cyclic_histories(60)
    examples = read([write_file(tmp_path / "a.parquet", nums)])
    np.testing.assert_array_equal(examples.item_nums_EW.numpy(), nums)


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


def test_a_file_cut_short_before_the_log_was_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "short.parquet"
    file = write_file(path, cyclic_histories(4))
    path.write_bytes(path.read_bytes()[:-100])
    file = file.model_copy(update={"size_bytes": file.size_bytes - 100})
    with pytest.raises(ContractError, match=r"cannot read training examples: .*short\.parquet"):
        read([file])


def test_a_file_whose_pages_are_damaged_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pages.parquet"
    whole = write_file(tmp_path / "whole.parquet", cyclic_histories(40))
    file = write_file(path, cyclic_histories(400), first_id=40)
    content = bytearray(path.read_bytes())
    content[4:3000] = bytes(2996)  # the footer, at the end, stays as it is
    path.write_bytes(content)
    with pytest.raises(ContractError, match=r"cannot read training examples: .*pages\.parquet"):
        read([whole, file])
    assert capfd.readouterr().err == ""  # one error, not a traceback of each worker beside it


def test_a_missing_column_is_said_with_the_file_and_the_columns_present(tmp_path: Path) -> None:
    whole = write_file(tmp_path / "whole.parquet", cyclic_histories(20))
    file = write_file(tmp_path / "old.parquet", cyclic_histories(4), first_id=20)
    assert file.path
    file = rewritten(file, pq.read_table(file.path, partitioning=None).drop_columns(["user_num"]))
    with pytest.raises(
        ContractError,
        match=r"old\.parquet has no column user_num \(expected int32\)\. Columns present: example_id, item_nums,",
    ):
        read([whole, file])


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("item_nums", pa.array([[1, 2]] * 4, pa.list_(pa.int32())), "expected binary, found list<element: int32>"),
        ("user_num", pa.array(["ana"] * 4), "expected int32, found string"),
        ("example_id", pa.array([1, 2, 3, 4], pa.int32()), "expected int64, found int32"),
    ],
)  # fmt: skip
def test_a_column_of_another_type_is_said_with_both(
    tmp_path: Path, column: str, values: pa.Array, said: str
) -> None:
    file = changed(write_file(tmp_path / "drift.parquet", cyclic_histories(4)), column, values)
    with pytest.raises(
        ContractError, match=rf"column {column} of training file .*drift\.parquet: {said}"
    ):
        read([file])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("user_num", pa.array([1, None, 3, 4], pa.int32())),
        ("targets", pa.array([b"\1" * LENGTH, None, None, None])),
    ],
)
def test_rows_without_a_value_are_refused(tmp_path: Path, column: str, values: pa.Array) -> None:
    file = changed(write_file(tmp_path / "holes.parquet", cyclic_histories(4)), column, values)
    with pytest.raises(ContractError, match=rf"holes\.parquet has [13] rows without {column}"):
        read([file])


def test_a_blob_of_another_width_is_said_with_the_example(tmp_path: Path) -> None:
    file = write_file(tmp_path / "a.parquet", cyclic_histories(4), first_id=70)
    with pytest.raises(
        ContractError,
        match=r"item_nums of example 70 has 48 bytes, expected 52: 13 places.*a\.parquet",
    ):
        read([file], width=LENGTH + 1)


@pytest.mark.parametrize("number", [NUM_ITEMS + 1, -1])
def test_an_item_number_outside_the_vocabulary_is_said(tmp_path: Path, number: int) -> None:
    nums = cyclic_histories(4)
    nums[2, 5] = number
    file = write_file(tmp_path / "a.parquet", nums)
    with pytest.raises(
        ContractError,
        match=rf"item number {number} in training example 2 .* 1 to {NUM_ITEMS} .*a\.parquet",
    ):
        read([file])


@pytest.mark.parametrize("number", [5, 0])
def test_a_user_number_outside_the_vocabulary_is_said(tmp_path: Path, number: int) -> None:
    file = write_file(tmp_path / "a.parquet", cyclic_histories(4))
    file = changed(file, "user_num", pa.array([1, 2, number, 4], pa.int32()))
    with pytest.raises(
        ContractError, match=rf"user number {number} in training example 2 .* 1 to 4 .*a\.parquet"
    ):
        read_examples([file], width=LENGTH, num_items=NUM_ITEMS, num_users=4)
    # A model that does not look at users reads them all the same.
    assert read([file]).user_num_E.tolist() == [1, 2, number, 4]
