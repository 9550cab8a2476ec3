"""Histories as files for the training processes: rows packed with several histories each, users to choose epochs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys.data import ExampleFile
from recsys.training.checkpoint import write_arrays
from recsys.training.validation import ValidationUsers, write_users

# Shape suffixes in this file:
#   U users   T events of all users   C windows of histories   R rows   W = max_length + 1 places of a row
#   H = max_length newest events
ROW_GROUP_ROWS = 32
"""Processes share out row groups: small ones, so that the shares are nearly equal."""

VALIDATION_USERS = 5000
"""At most so many: the more, the surer the number of epochs and the longer an epoch."""


class FlatHistories(NamedTuple):
    """Histories end to end, oldest event first; those of user u are the places offsets[u] to offsets[u + 1] - 1."""

    offsets: NDArray[np.int64]
    """(U + 1,)"""
    item_nums: NDArray[np.int32]
    """(T,), from 1."""
    ages_days: NDArray[np.float32]
    """(T,), before the cut-off, not growing within a user; zeros where only the order is known."""

    @classmethod
    def of(
        cls, offsets: NDArray[np.int64], item_nums: NDArray[np.int32], days: NDArray[np.float64] | None,
        *, num_items: int, as_of: float | None,
    ) -> FlatHistories:  # fmt: skip
        """Events of items beyond 1 to ``num_items`` are left out; without ``as_of`` the newest event's day is it."""
        known_T = (item_nums > 0) & (item_nums <= num_items)
        upto_T = np.concatenate([[0], np.cumsum(known_T)])
        ages_T = np.zeros(len(item_nums), dtype=np.float32)
        if days is not None and len(days):
            end = float(days.max()) if as_of is None else as_of
            ages_T = np.maximum(end - days, 0.0).astype(np.float32)
        return cls(upto_T[offsets].astype(np.int64), item_nums[known_T], ages_T[known_T])

    def __len__(self) -> int:  # the users, not the fields
        return len(self.offsets) - 1

    def newest(self, length: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(U, H) the newest ``length`` items and their ages, newest last, zeros before them."""
        place_UH = self.offsets[1:, None] + np.arange(-length, 0)
        real_UH = place_UH >= self.offsets[:-1, None]
        if not len(self.item_nums):
            return np.zeros(place_UH.shape, np.int64), np.zeros(place_UH.shape, np.float32)
        place_UH[~real_UH] = 0
        nums_UH = np.where(real_UH, self.item_nums[place_UH], 0).astype(np.int64)
        return nums_UH, np.where(real_UH, self.ages_days[place_UH], 0).astype(np.float32)


class Rows(NamedTuple):
    """Windows of histories end to end in rows, padding on the left."""

    item_nums_RW: NDArray[np.int32]
    ages_days_RW: NDArray[np.float32]
    targets_RW: NDArray[np.bool_]
    """False for the first event of each window: a real place without a target begins one."""

    def __len__(self) -> int:  # the rows, not the fields
        return len(self.item_nums_RW)


def windows(offsets: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends (C,) of windows of at most ``width`` events, user by user, newest window first.

    Windows of a user share one event, so that every event but a user's first is predicted once. A user with fewer
    than two events has none.
    """
    lengths_U = np.diff(offsets)
    num_U = np.where(lengths_U > 1, -(-(lengths_U - 1) // (width - 1)), 0)
    user_C = np.repeat(np.arange(len(lengths_U)), num_U)
    number_C = np.arange(len(user_C)) - np.repeat(np.cumsum(num_U) - num_U, num_U)
    end_C = offsets[1:][user_C] - number_C * (width - 1)
    return np.maximum(offsets[:-1][user_C], end_C - width), end_C


def packed_rows(histories: FlatHistories, *, width: int, seed: int) -> Rows:
    """Windows in an order that ``seed`` decides, each into the fullest row that has room for it (best fit)."""
    start_C, end_C = windows(histories.offsets, width)
    order_C = np.random.default_rng(seed).permutation(len(start_C))
    start_C, end_C = start_C[order_C], end_C[order_C]
    row_C, left_C, num_rows = best_fit(end_C - start_C, width)
    rows = Rows(
        np.zeros((num_rows, width), np.int32),
        np.zeros((num_rows, width), np.float32),
        np.zeros((num_rows, width), np.bool_),
    )
    lengths_C = end_C - start_C
    within_T = np.arange(lengths_C.sum()) - np.repeat(np.cumsum(lengths_C) - lengths_C, lengths_C)
    event_T = np.repeat(start_C, lengths_C) + within_T
    # What is used of a row is counted from its right end.
    place_T = np.repeat(width - left_C - lengths_C, lengths_C) + within_T
    row_T = np.repeat(row_C, lengths_C)
    rows.item_nums_RW[row_T, place_T] = histories.item_nums[event_T]
    rows.ages_days_RW[row_T, place_T] = histories.ages_days[event_T]
    rows.targets_RW[row_T, place_T] = within_T > 0
    return rows


def best_fit(
    lengths_C: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """By window its row and what was used of it before; and the number of rows."""
    row_C, used_C = np.zeros(len(lengths_C), np.int64), np.zeros(len(lengths_C), np.int64)
    with_room: list[list[int]] = [[] for _ in range(width + 1)]
    num_rows = 0
    for window, length in enumerate(lengths_C.tolist()):
        room = next((room for room in range(length, width + 1) if with_room[room]), 0)
        if room:
            row = with_room[room].pop()
        else:
            row, room, num_rows = num_rows, width, num_rows + 1
        row_C[window], used_C[window] = row, width - room
        with_room[room - length].append(row)
    return row_C, used_C, num_rows


def write_rows(path: Path, rows: Rows) -> ExampleFile:
    """The packed form of ``training_examples``, which the loader reads."""
    num_rows = len(rows)
    table = pa.table(
        {
            "example_id": pa.array(np.arange(num_rows)),
            "user_num": pa.array(np.arange(1, num_rows + 1, dtype=np.int32)),
            "item_nums": _blobs(rows.item_nums_RW.astype("<i4")),
            "ages_days": _blobs(rows.ages_days_RW.astype("<f4")),
            "targets": _blobs(rows.targets_RW.astype("u1")),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=ROW_GROUP_ROWS)
    return ExampleFile(uri=str(path), size_bytes=path.stat().st_size, first_example_id=0)


def _blobs(values_RW: NDArray[Any]) -> pa.Array:
    size = values_RW.shape[1] * values_RW.itemsize
    blobs = np.ascontiguousarray(values_RW).view(f"V{size}").ravel()
    return pa.array([blob.tobytes() for blob in blobs], pa.binary())


def write_validation(
    path: Path, histories: FlatHistories, targets: NDArray[np.int32], *, length: int, seed: int
) -> int:
    """Users with a history and a target (0: none), drawn by ``seed`` where there are many; returns how many."""
    users = np.flatnonzero((targets > 0) & (np.diff(histories.offsets) > 0))
    if len(users) > VALIDATION_USERS:
        drawn = np.random.default_rng(seed).choice(len(users), VALIDATION_USERS, replace=False)
        users = users[np.sort(drawn)]
    nums_UH, ages_UH = histories.newest(length)
    write_users(
        path,
        ValidationUsers(
            torch.from_numpy(nums_UH[users]), torch.from_numpy(ages_UH[users]),
            torch.arange(len(users)), torch.from_numpy(targets[users].astype(np.int64)),
        ),
    )  # fmt: skip
    return len(users)


def write_facts(
    path: Path, histories: FlatHistories, attributes: csr_array | None, *, num_items: int
) -> None:
    """What the task must know of the whole shop: each process reads its share of the rows alone."""
    counts = np.bincount(histories.item_nums, minlength=num_items + 1)
    facts: dict[str, NDArray[Any]] = {"num_events_I": counts.astype(np.int64)}
    if attributes is not None:
        facts["attribute_nums_P"] = attributes.indices.astype(np.int64)
        facts["attribute_ends_I"] = attributes.indptr.astype(np.int64)
        facts["num_attributes"] = np.array(attributes.shape[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, facts)
