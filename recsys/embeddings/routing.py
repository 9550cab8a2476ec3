"""From ids to messages: each distinct row is asked for once, of the rank that holds it.

A message is one tensor, cut into a part for each other rank. A number of distinct ids is a new shape each step, and
Horovod remembers one shape for each message's name: one that has another shape than the last costs an allreduce and a
round of agreement more (0.3 ms on two ranks of one machine). So parts are padded to sizes that grow by an eighth, and
do not shrink at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Shape suffixes in this file:
#   P ids of a batch, flat   B bags   U distinct rows of a batch, by (rank that holds them, table)
#   K pieces of a batch   N ranks

SMALLEST_PART = 64
"""Elements of a message's type. A smaller message costs no less."""

STEPS_KEPT = 64
"""How long a part stays larger than it had to be."""


def padded(size: int) -> int:
    """The smallest size of the series 64, 72, 81, 91 … that is not below ``size``."""
    bucket = SMALLEST_PART
    while bucket < size:
        bucket += bucket // 8
    return bucket


class Padding:
    """Of one message, step by step: where a part falls to the next smaller size, it keeps its own for some steps.

    Sizes that are near a step of the series then do not change to and fro; at most an eighth more is sent.
    """

    def __init__(self, ranks: int) -> None:
        self._sizes = [0] * ranks
        self._steps_smaller = [0] * ranks

    def splits(self, sizes: Sequence[Sequence[int]], me: int) -> list[int]:
        """Elements of the part for each rank, from the sizes of its pieces; what a rank has for itself is not sent."""
        for rank, of_rank in enumerate(sizes):
            if rank == me:
                continue
            size = padded(sum(of_rank))
            one_below = size + size // 8 == self._sizes[rank]
            self._steps_smaller[rank] = self._steps_smaller[rank] + 1 if one_below else 0
            if not one_below or self._steps_smaller[rank] == STEPS_KEPT:
                self._sizes[rank], self._steps_smaller[rank] = size, 0
        return list(self._sizes)


class Bags(NamedTuple):
    """Ids in bags of any length, also none."""

    ids_P: Tensor
    """int64."""
    starts_B: Tensor
    """int64, where each bag starts among the ids; the first is 0."""

    def without(self, id_: int) -> Bags:
        """The same bags, less one id."""
        kept_P = self.ids_P != id_
        before = torch.cat([kept_P.new_zeros(1, dtype=torch.int64), kept_P.cumsum(0)])
        return Bags(self.ids_P[kept_P], before[self.starts_B])

    @property
    def sizes_B(self) -> Tensor:
        end = self.starts_B.new_tensor([len(self.ids_P)])
        return torch.cat([self.starts_B, end]).diff()


Ids = Tensor | Bags


@dataclass(frozen=True)
class Wanted:
    """The distinct rows that a batch asks for in one group of tables, and which of its ids are which row."""

    rows_U: Tensor
    """int64, the row's number on the rank that holds it."""
    counts_N: list[int]
    """Rows asked of each rank; they lie in this order."""
    place_P: Tensor
    """int64, for each id its place among the U rows. Ids lie table by table."""
    starts_K: Tensor
    """int64, (K + 1): piece k of the batch is the ids at order_P[starts_K[k] : starts_K[k + 1]], ascending.

    All ids of a row are in one piece, and pieces lie by rank. How large they are is the row operations' own affair.
    """
    order_P: Tensor
    """int64."""

    @property
    def by_rank(self) -> tuple[Tensor, ...]:
        return self.rows_U.split_with_sizes(self.counts_N)


class Parts:
    """A message to the other ranks: for each of them pieces of known sizes, and zeros behind the last one."""

    def __init__(
        self, sizes: Sequence[Sequence[int]], splits: list[int], empty: Callable[[int], Tensor]
    ) -> None:
        """``sizes`` by rank and piece; ``splits`` by rank, at least their sums (but for the sender's own)."""
        self._sizes, self.splits = sizes, splits
        self.message = empty(sum(splits))
        self._parts = self.message.split_with_sizes(splits)

    def pieces(self, rank: int) -> tuple[Tensor, ...]:
        """Views to be filled."""
        sizes, part = self._sizes[rank], self._parts[rank]
        *views, rest = part.split_with_sizes([*sizes, len(part) - sum(sizes)])
        rest.zero_()
        return tuple(views)
