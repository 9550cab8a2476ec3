"""Some of the measured users: who they are, what they went on to have, and everybody's lists for them.

Shape suffixes: U users, T kinds of targets, M metrics, C cut-offs, Q figures of lists, K list places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.evaluation.ranking import hits, metrics_by_user
from recsys.evaluation.splits import Targets
from recsys.mixing import U64
from recsys.scoring.lists import Lists
from recsys.scoring.users import flat_lists

KINDS = ("all", "first")
"""All purchases; items that the user had never bought before the cut-off."""

NEWEST = 5
"""Events of a history that are kept to be shown."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class People:
    """Users, and what they went on to have."""

    user_ids: tuple[str, ...]
    keys_U: U64
    """A hash of each id: how often a resample has a user goes by it."""
    segments: tuple[str, ...]
    """'' where unknown."""
    num_events_U: Ints
    """Of the history, as long as it is kept (``features.max_history``)."""
    newest_UK: NDArray[np.int32]
    """The newest ``NEWEST`` items of the history, oldest first, 0 before them."""
    targets: Targets
    num_first_U: Ints
    """Targets that they had never had."""

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def has_targets_UT(self) -> NDArray[np.bool_]:
        has: NDArray[np.bool_] = np.stack([self.targets.counts, self.num_first_U], axis=1) > 0
        return has

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> People:
        """From the columns of ``targets.measured_users``."""
        history_offsets, history_nums = flat_lists(batch.column("item_nums"))
        target_offsets, target_nums = flat_lists(batch.column("target_nums"))
        return cls(
            tuple(batch.column("user_id").to_pylist()),
            batch.column("sample_order").to_numpy(zero_copy_only=False).view(np.uint64),
            tuple(pc.fill_null(batch.column("segment"), "").to_pylist()),
            np.diff(history_offsets),
            _newest(history_offsets, _int32(history_nums)),
            Targets(target_offsets, _int32(target_nums), _ints(batch, "num_targets")),
            _ints(batch, "num_first"),
        )


@dataclass(frozen=True)
class Block:
    """What was measured of some users, by recommender."""

    people: People
    by_user: Mapping[str, NDArray[np.float64]]
    """[U, T, M, C]; 0 for a user without such targets."""
    list_values: Mapping[str, NDArray[np.float64]]
    """[U, Q, C], the figures of ``catalogue``; NaN where there is nothing to say of a user."""
    lists: Mapping[str, NDArray[np.int32]]
    """[U, K], as deep as the deepest cut-off; 0 behind what is there."""


def values_of_lists(
    lists: Lists, batch: pa.RecordBatch, ks: tuple[int, ...]
) -> NDArray[np.float64]:
    """[U, T, M, C] of one batch, NaN without such targets; it has the columns of ``targets.TARGET_COLUMNS``."""
    lists_UK = lists.padded(max(ks))
    kinds = []
    for nums, count in (("target_nums", "num_targets"), ("first_nums", "num_first")):
        offsets, flat = flat_lists(batch.column(nums))
        found_UK = hits(lists_UK, offsets, _int32(flat))
        kinds.append(metrics_by_user(found_UK, _ints(batch, count), ks))
    return np.stack(kinds, axis=1)


def _newest(offsets: Ints, nums: NDArray[np.int32]) -> NDArray[np.int32]:
    """[U, NEWEST], 0 before what is there."""
    places_UK = offsets[1:, None] + np.arange(-NEWEST, 0)
    there_UK = places_UK >= offsets[:-1, None]
    out = np.zeros(places_UK.shape, dtype=np.int32)
    out[there_UK] = nums[places_UK[there_UK]]
    return out


def _int32(values: Any) -> NDArray[np.int32]:
    found: NDArray[np.int32] = values.to_numpy(zero_copy_only=False).astype(np.int32)
    return found


def _ints(batch: pa.RecordBatch, name: str) -> Ints:
    values: Ints = batch.column(name).to_numpy(zero_copy_only=False).astype(np.int64)
    return values
