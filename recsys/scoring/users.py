"""A batch of users as flat arrays: no Python object per row.

Shape suffixes: B users, H history slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class UserBatch:
    """What scoring knows of B users. Lists are flat, with B + 1 offsets; histories are oldest first."""

    history_offsets: Ints
    history_nums: NDArray[np.int32]
    ages_days: NDArray[np.float32]
    event_weights: NDArray[np.float64]
    """Weight of each event's signal."""
    is_target: NDArray[np.bool_]
    seen_offsets: Ints
    seen_nums: NDArray[np.int32]
    """Left out where ``exclude_seen`` is on."""
    hidden_offsets: Ints
    hidden_nums: NDArray[np.int32]
    """Left out always: what the rules take from this user alone, such as an item lately returned."""
    segments: NDArray[np.int32]
    """Row of the kit's segments, so of its popularity and its masks; 0 is the whole shop."""
    user_nums: Ints
    """Number in the vocabulary, for the ranking model; 0 where unknown, and where none is used."""

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def has_history(self) -> NDArray[np.bool_]:
        return np.diff(self.history_offsets) > 0

    def slice(self, start: int, stop: int) -> UserBatch:
        """Users ``start`` to ``stop``, without copying."""
        h, s = self.history_offsets[start : stop + 1], self.seen_offsets[start : stop + 1]
        x = self.hidden_offsets[start : stop + 1]
        history, seen, hidden = slice(h[0], h[-1]), slice(s[0], s[-1]), slice(x[0], x[-1])
        return UserBatch(
            h - h[0], self.history_nums[history], self.ages_days[history],
            self.event_weights[history], self.is_target[history],
            s - s[0], self.seen_nums[seen], x - x[0], self.hidden_nums[hidden],
            self.segments[start:stop], self.user_nums[start:stop],
        )  # fmt: skip

    def take(self, rows: Ints) -> UserBatch:
        """The users at ``rows``, in that order."""
        h_offsets, history = _gathered(self.history_offsets, rows)
        s_offsets, seen = _gathered(self.seen_offsets, rows)
        x_offsets, hidden = _gathered(self.hidden_offsets, rows)
        return UserBatch(
            h_offsets, self.history_nums[history], self.ages_days[history],
            self.event_weights[history], self.is_target[history],
            s_offsets, self.seen_nums[seen], x_offsets, self.hidden_nums[hidden],
            self.segments[rows], self.user_nums[rows],
        )  # fmt: skip

    def padded(self, length: int, num_known: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The newest ``length`` events that the model knows: item_nums_BH and gaps_BH, left-padded with 0.

        An item newer than the model (number above ``num_known``) is left out, and the gap reaches over it.
        A gap is the days to the next event; the newest event's reaches to as_of.
        """
        known = (self.history_nums > 0) & (self.history_nums <= num_known)
        rows_of = np.repeat(np.arange(len(self)), np.diff(self.history_offsets))
        rows, nums, ages = rows_of[known], self.history_nums[known], self.ages_days[known]
        counts = np.bincount(rows, minlength=len(self))
        ends = np.cumsum(counts)
        gaps = ages.copy()
        if len(ages):
            follows = np.ones(len(ages), dtype=bool)
            follows[ends[counts > 0] - 1] = False  # the newest of each user
            gaps[follows] -= ages[1:][follows[:-1]]
        places = length - (ends[rows] - np.arange(len(rows)))
        kept = places >= 0
        item_nums_BH = np.zeros((len(self), length), dtype=np.int32)
        gaps_BH = np.zeros((len(self), length), dtype=np.float32)
        item_nums_BH[rows[kept], places[kept]] = nums[kept]
        gaps_BH[rows[kept], places[kept]] = np.maximum(gaps[kept], 0)
        return item_nums_BH, gaps_BH


@dataclass(frozen=True)
class Signals:
    """What event types mean to scoring; small, so it travels with the task."""

    types: tuple[str, ...]
    weights: tuple[float, ...]
    targets: tuple[bool, ...]


def batch_from_arrow(
    batch: pa.RecordBatch, signals: Signals, segments: tuple[str, ...]
) -> UserBatch:
    """From the columns of ``spark.INPUT``; a null list is an empty one.

    ``segments`` are the kit's: a segment that is null or unknown counts as the whole shop.
    """
    history_offsets, nums = flat_lists(batch.column("item_nums"))
    seen_offsets, seen = flat_lists(batch.column("seen_nums"))
    hidden_offsets, hidden = flat_lists(batch.column("hidden_nums"))
    _, ages = flat_lists(batch.column("ages_days"))
    _, types = flat_lists(batch.column("event_types"))
    codes = pc.index_in(types, value_set=pa.array(signals.types, pa.string()))
    codes = codes.fill_null(len(signals.types)).to_numpy(zero_copy_only=False)
    rows = pc.index_in(
        batch.column("segment"), value_set=pa.array(segments, pa.string()), skip_nulls=True
    )
    return UserBatch(
        history_offsets,
        _numpy(nums, np.int32),
        _numpy(ages, np.float32),
        np.array([*signals.weights, 1.0])[codes],
        np.array([*signals.targets, False])[codes],
        seen_offsets,
        _numpy(seen, np.int32),
        hidden_offsets,
        _numpy(hidden, np.int32),
        rows.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32),
        _numpy(batch.column("user_num").fill_null(0), np.int64),
    )


def _gathered(offsets: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Offsets of the chosen lists, and the places of their values."""
    lengths = np.diff(offsets)[rows]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return ends, np.arange(ends[-1]) + np.repeat(offsets[:-1][rows] - ends[:-1], lengths)


def flat_lists(column: Any) -> tuple[Ints, Any]:
    """Offsets and values of a list column."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return offsets, column.flatten()  # leaves out what null lists hide


def _numpy(values: Any, dtype: Any) -> Any:
    return values.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
