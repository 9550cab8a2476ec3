"""Negatives that are distinct and drawn with unequal chances, each of which is known exactly."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Shape suffixes in this file:
#   I items, 0 included   S negatives


def chances_of(
    num_events_I: NDArray[np.int64], num_negatives: int, *, power: float, popular_share: float
) -> NDArray[np.float64]:
    """(I,) the chance of each item to be among the negatives: they sum to S, none is above 1, item 0's is 0.

    ``popular_share`` of the chances goes by the items' events to the ``power``, the rest is uniform. Items whose chance
    would be above 1 are always drawn, and what they leave goes to the others in proportion.
    """
    num_items = len(num_events_I) - 1
    if num_negatives >= num_items:
        chances_I = np.ones(num_items + 1)
        chances_I[0] = 0.0
        return chances_I
    popular_I = num_events_I.astype(np.float64) ** power * (num_events_I > 0)
    popular_I[0] = 0.0
    share = popular_share if popular_I.sum() > 0 else 0.0
    wanted_I = np.full(num_items + 1, (1.0 - share) / num_items)
    if share:
        wanted_I += share * popular_I / popular_I.sum()
    wanted_I[0] = 0.0
    certain_I = np.zeros(num_items + 1, dtype=bool)
    while True:
        left = num_negatives - int(certain_I.sum())
        rest = wanted_I[~certain_I].sum()
        chances_I = np.where(certain_I, 1.0, wanted_I * (left / rest if rest > 0 else 0.0))
        above_I = (chances_I > 1.0) & ~certain_I
        if not above_I.any():
            return chances_I
        certain_I |= above_I


class ItemSample:
    """Draws S distinct items, item i with the chance ``chances_I[i]``.

    Systematic sampling with unequal chances (Madow, 1949): the chances laid end to end in random order, and every
    place u, u + 1, u + 2, ... of a random u < 1 picks the item it falls on.
    """

    def __init__(self, chances_I: NDArray[np.float64]) -> None:
        self._possible = torch.from_numpy(np.flatnonzero(chances_I > 0))
        self._chances = torch.from_numpy(chances_I[chances_I > 0])
        self._num = round(float(chances_I.sum()))

    def draw(self, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Items (S,) int64 and their chances (S,) float64."""
        if self._num >= len(self._possible):
            return self._possible, self._chances
        order = torch.randperm(len(self._possible), generator=draw)
        ends = self._chances[order].cumsum(0)
        first = torch.rand((), generator=draw, dtype=torch.float64)
        picks_S = first + torch.arange(self._num, dtype=torch.float64)
        place_S = torch.searchsorted(ends, picks_S, right=True).clamp(max=len(order) - 1)
        # Sums of floats may put two picks a hair apart on one certain item.
        chosen_S = order[torch.unique_consecutive(place_S)]
        return self._possible[chosen_S], self._chances[chosen_S]
