"""Item lists of a batch of users, flat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.scoring.users import Ints

SOURCES = ("model", "similar", "repeat", "popular")
"""Why an item is in a list: the part of the score that contributes most; ties to the earlier name."""


@dataclass(frozen=True)
class Lists:
    """One list per user, best first, with B + 1 offsets."""

    offsets: Ints
    item_nums: NDArray[np.int32]
    scores: NDArray[np.float32]
    sources: NDArray[np.int8]
    """Place in ``SOURCES``."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    @property
    def rows(self) -> Ints:
        """The user of each place."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def ranks(self) -> Ints:
        """1-based place within its list."""
        return np.arange(1, len(self.item_nums) + 1) - np.repeat(self.offsets[:-1], self.lengths)

    def where(self, kept: NDArray[np.bool_]) -> Lists:
        """The lists with the places that are kept."""
        lengths = np.bincount(self.rows[kept], minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Lists(offsets, self.item_nums[kept], self.scores[kept], self.sources[kept])

    def with_rows(self, rows: Ints, replacements: Lists) -> Lists:
        """The lists with those of ``rows`` replaced."""
        kept = np.ones(len(self), dtype=bool)
        kept[rows] = False
        old = self.where(kept[self.rows])
        owners = np.concatenate([old.rows, rows[replacements.rows]])
        order = np.argsort(owners, kind="stable")
        return Lists(
            np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(self)))]),
            np.concatenate([old.item_nums, replacements.item_nums])[order],
            np.concatenate([old.scores, replacements.scores])[order],
            np.concatenate([old.sources, replacements.sources])[order],
        )

    def padded(self, length: int) -> NDArray[np.int32]:
        """[users, length] item numbers, 0 where a list is shorter."""
        out = np.zeros((len(self), length), dtype=np.int32)
        kept = self.ranks <= length
        out[self.rows[kept], self.ranks[kept] - 1] = self.item_nums[kept]
        return out


def joined(parts: Sequence[Lists]) -> Lists:
    """The lists of consecutive batches as one."""
    lengths = np.concatenate([[0], *(part.lengths for part in parts)])
    return Lists(
        np.cumsum(lengths, dtype=np.int64),
        np.concatenate([np.zeros(0, np.int32), *(part.item_nums for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
        np.concatenate([np.zeros(0, np.int8), *(part.sources for part in parts)]),
    )
