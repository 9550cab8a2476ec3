"""What a recommender is fitted on: a shop as it was known before the cut-off, numbered, in flat arrays.

Shape suffixes: U users, T events of all users, B users of a batch, N catalogue (num_items + 1), A attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys.config.sections import TrainingConfig

Ints = NDArray[np.int64]
ItemNums = NDArray[np.int32]
Floats = NDArray[np.float64]
Scores = NDArray[np.float32]

BLOCK_USERS = 512
"""Are scored at a time where many are: dense, 512 x 40,000 in float32 are 80 MB."""


@dataclass(frozen=True)
class Histories:
    """What users had, oldest first: those of user u are the places ``offsets[u]`` to ``offsets[u + 1] - 1``.

    A user may have none. Every recommender is fitted on these and asked with these.
    """

    offsets: Ints
    """(U + 1,), from 0, not falling."""
    item_nums: ItemNums
    """(T,), 1 to num_items; 0 is an item that the shop does not know."""
    days: NDArray[np.float64] | None = None
    """(T,), when, in days since any one moment, not falling within a user; None where only the order is known."""
    is_target: NDArray[np.bool_] | None = None
    """(T,), whether the event is what recommendations are meant to bring about, a purchase and no view; None: all
    are."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Ints:
        """(U,)"""
        return np.diff(self.offsets)

    @cached_property
    def rows(self) -> Ints:
        """(T,), the user of each event, from 0."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    @cached_property
    def places_to_newest(self) -> Ints:
        """(T,), 0 for a user's newest event."""
        return self.offsets[1:][self.rows] - 1 - np.arange(len(self.item_nums))

    def take(self, users: Ints) -> Histories:
        """Those of ``users``, in that order."""
        lengths = self.lengths[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        places = np.repeat(self.offsets[:-1][users], lengths) + within
        return self._at(offsets, places)

    def without_newest(self, count: int = 1) -> Histories:
        """All but the newest ``count`` events of every user."""
        return self.where(self.places_to_newest >= count)

    def where(self, kept: NDArray[np.bool_]) -> Histories:
        """The events of ``kept``, (T,), of all users."""
        lengths = np.bincount(self.rows[kept], minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return self._at(offsets, np.flatnonzero(kept))

    def targets(self) -> Histories:
        """The events that recommendations are meant to bring about."""
        return self if self.is_target is None else self.where(self.is_target)

    def newest(self) -> ItemNums:
        """(U,): the item of the newest event; 0 for a user without any."""
        found = np.zeros(len(self), dtype=np.int32)
        has = self.lengths > 0
        found[has] = self.item_nums[self.offsets[1:][has] - 1]
        return found

    def matrix(self, num_items: int, weights: NDArray[np.float64] | None = None) -> csr_array:
        """(U, N) sums of ``weights`` of a user's events of an item; of ones by default."""
        values = np.ones(len(self.item_nums)) if weights is None else weights
        known = (self.item_nums > 0) & (self.item_nums <= num_items)
        shape = (len(self), num_items + 1)
        made = csr_array((values[known], (self.rows[known], self.item_nums[known])), shape=shape)
        made.sum_duplicates()
        return made

    def _at(self, offsets: Ints, places: Ints) -> Histories:
        days = None if self.days is None else self.days[places]
        is_target = None if self.is_target is None else self.is_target[places]
        return Histories(offsets, self.item_nums[places], days, is_target)


@dataclass(frozen=True)
class Users:
    """Who is asked for: B users as they were known at the cut-off."""

    histories: Histories
    user_nums: Ints
    """(B,), their numbers in the shop that was fitted, from 1; 0 for a user whom it does not know."""
    segments: Ints | None = None
    """(B,), as ``Shop.segments``."""

    def __len__(self) -> int:
        return len(self.histories)

    def slice(self, start: int, stop: int) -> Users:
        return self.take(np.arange(start, min(stop, len(self)), dtype=np.int64))

    def take(self, rows: Ints) -> Users:
        """Those at the places ``rows``, in that order."""
        segments = None if self.segments is None else self.segments[rows]
        return Users(self.histories.take(rows), self.user_nums[rows], segments)


@dataclass(frozen=True)
class Shop:
    """Everything known before the cut-off; nothing of it is later."""

    num_items: int
    histories: Histories
    """Of user 1, 2, … in this order."""
    as_of: float | None = None
    """The cut-off, on the clock of ``histories.days``."""
    attributes: csr_array | None = None
    """(N, A): what items are; 1 where item n has attribute a. Row 0 is empty."""
    prices: NDArray[np.float64] | None = None
    """(N,), NaN where there is none."""
    segments: Ints | None = None
    """(U,), 0 where a user has none."""
    exclude_seen: bool = True
    """Whether lists leave out what the user had: what is chosen on what was taken next is chosen for such lists."""
    seed: int = 17
    threads: int = 2
    work: Path | None = None
    """A folder for what a fit writes on its way; where None, a recommender that needs one says so."""
    spark: SparkSession | None = None
    """For what is fitted on Spark."""
    training: TrainingConfig | None = None
    """How training processes are started; None: ``threads`` of them on this machine."""

    @property
    def width(self) -> int:
        """N: the catalogue and the unused item 0."""
        return self.num_items + 1

    def everyone(self) -> Users:
        """The users it was fitted on."""
        nums = np.arange(1, len(self.histories) + 1, dtype=np.int64)
        return Users(self.histories, nums, self.segments)


def blocks(users: Users) -> Iterator[Users]:
    """``BLOCK_USERS`` at a time, in their order."""
    for start in range(0, len(users), BLOCK_USERS):
        yield users.slice(start, start + BLOCK_USERS)


def in_blocks(targets: ItemNums) -> Iterator[ItemNums]:
    """The targets of the users of each of ``blocks``."""
    for start in range(0, len(targets), BLOCK_USERS):
        yield targets[start : start + BLOCK_USERS]


def nothing_seen(users: Users, width: int) -> NDArray[np.bool_]:
    """(B, N): column 0 alone."""
    mask_BN = np.zeros((len(users), width), dtype=bool)
    mask_BN[:, 0] = True
    return mask_BN


def seen_mask(users: Users, width: int) -> NDArray[np.bool_]:
    """(B, N): what each user had; column 0 is always set."""
    mask_BN = nothing_seen(users, width)
    nums = users.histories.item_nums
    mask_BN[users.histories.rows, np.where(nums < width, nums, 0)] = True
    return mask_BN
