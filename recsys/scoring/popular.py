"""What a score has before anything about the user is added: popularity in the segment, and the segment's masks.

Shape suffixes: B users, N catalogue (num_items + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.records import Recipe
from recsys.scoring.kit import MOST_BYTES, Kit
from recsys.scoring.parts import Floats
from recsys.scoring.select import PADDING
from recsys.scoring.users import Ints, UserBatch


class Bases:
    """Rows in float32 by segment and weight, minus infinity where the segment's masks hide an item."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._rows: dict[tuple[int, float], NDArray[np.float32]] = {}

    def row(self, segment: int, weight: float) -> NDArray[np.float32]:
        """``PADDING`` longer than the catalogue; what is beyond it is hidden."""
        key = (segment, weight)
        if key not in self._rows:
            kit = self._kit
            if (len(self._rows) + 1) * 4 * kit.width > MOST_BYTES:
                self._rows.clear()
            row = np.full(kit.width + PADDING, -np.inf, dtype=np.float32)
            allowed = np.flatnonzero(kit.allowed_in(segment))
            row[allowed] = weight * kit.popularity(segment)[allowed]
            self._rows[key] = row
        return self._rows[key]


@dataclass(frozen=True)
class Popular:
    """Popularity * popularity(i) of each user's segment; 1 * popularity(i) without a history."""

    weight_B: Floats
    bases: list[NDArray[np.float32]]
    base_B: Ints
    """Place of each user's row in ``bases``."""
    shares: list[Floats]
    """Before the weight, in float64."""
    share_B: Ints

    @classmethod
    def of(cls, users: UserBatch, kit: Kit, recipe: Recipe, bases: Bases) -> Popular:
        weight_B = np.where(users.has_history, recipe.popularity, 1.0)
        segments, share_B = np.unique(users.segments, return_inverse=True)
        groups, base_B = np.unique(2 * share_B + users.has_history, return_inverse=True)
        weights = (1.0, recipe.popularity)
        return cls(
            weight_B,
            [bases.row(int(segments[group // 2]), weights[group % 2]) for group in groups],
            base_B,
            [kit.popularity(int(segment)) for segment in segments],
            share_B,
        )
