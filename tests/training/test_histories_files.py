"""Histories end to end in rows: every event but a user's first is a target, once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import read_examples
from recsys.training.histories_files import FlatHistories, packed_rows, windows, write_rows

WIDTH = 6


def flat(histories: list[list[int]], *, num_items: int = 99) -> FlatHistories:
    """Ages fall by a day from event to event."""
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in histories])])
    nums = np.array([item for items in histories for item in items], dtype=np.int32)
    days = np.array([float(place) for items in histories for place in range(len(items))])
    return FlatHistories.of(offsets.astype(np.int64), nums, days, num_items=num_items, as_of=20.0)


def taught(histories: FlatHistories) -> Counter[tuple[int, int]]:
    """Pairs of an item and the one after it, as the packed rows tell them."""
    rows = packed_rows(histories, width=WIDTH, seed=1)
    nums, targets = rows.item_nums_RW, rows.targets_RW
    row, place = np.nonzero(targets)
    return Counter(zip(nums[row, place - 1].tolist(), nums[row, place].tolist(), strict=True))


@given(st.lists(st.lists(st.integers(1, 99), max_size=20), max_size=12))
def test_every_step_of_every_history_is_taught_once(histories: list[list[int]]) -> None:
    steps = Counter(pair for items in histories for pair in pairwise(items))
    assert taught(flat(histories)) == steps


@given(st.lists(st.integers(0, 20), max_size=12))
def test_windows_are_no_longer_than_a_row_and_share_one_event(lengths: list[int]) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    starts, ends = windows(offsets, WIDTH)
    assert ((ends - starts >= 2) & (ends - starts <= WIDTH)).all()
    assert (ends - starts - 1).sum() == sum(max(0, length - 1) for length in lengths)


def test_rows_are_nearly_full_and_padded_on_the_left() -> None:
    random = np.random.default_rng(3)
    histories = flat([[1] * int(length) for length in random.integers(2, 7, 500)])
    rows = packed_rows(histories, width=WIDTH, seed=1)
    real = rows.item_nums_RW != 0
    assert real.mean() > 0.9  # one history a row: two thirds
    assert (np.diff(real.astype(int), axis=1) >= 0).all()
    assert not rows.targets_RW[~real].any()


def test_a_seed_decides_which_histories_share_a_row() -> None:
    histories = flat([[item, item + 1] for item in range(1, 60)])
    one, same, other = (packed_rows(histories, width=WIDTH, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.item_nums_RW, same.item_nums_RW)
    assert not np.array_equal(one.item_nums_RW, other.item_nums_RW)


def test_the_loader_reads_what_was_written(tmp_path: Path) -> None:
    rows = packed_rows(flat([[1, 2, 3], [4, 5], [6, 7, 8, 9]]), width=WIDTH, seed=1)
    read = read_examples([write_rows(tmp_path / "rows.parquet", rows)], width=WIDTH, num_items=99)
    assert np.array_equal(read.item_nums_EW.numpy(), rows.item_nums_RW)
    assert np.array_equal(read.ages_days_EW.numpy(), rows.ages_days_RW)
    assert np.array_equal(read.targets_EW.numpy(), rows.targets_RW)


def test_the_newest_events_come_last_and_unknown_items_take_no_place() -> None:
    nums, ages = flat([[1, 2, 0, 3], [], [4]], num_items=3).newest(2)
    assert nums.tolist() == [[2, 3], [0, 0], [0, 0]]
    assert ages.tolist() == [[19.0, 17.0], [0.0, 0.0], [0.0, 0.0]]
