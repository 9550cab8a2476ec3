"""From ids to messages: each distinct row is asked for once, of the rank that holds it.

A message is one tensor, cut into a part for each other rank. Parts are padded to sizes that grow by an eighth:
Horovod agrees anew on every shape that it has not seen, and a number of distinct ids is a new shape each step.
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


def padded(size: int) -> int:
    """The smallest size of the series 64, 72, 81, 91 … that is not below ``size``."""
    bucket = SMALLEST_PART
    while bucket < size:
        bucket += bucket // 8
    return bucket


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
        self, sizes: Sequence[Sequence[int]], me: int, empty: Callable[[int], Tensor]
    ) -> None:
        """``sizes`` by rank and piece; what a rank has for itself (``me``) is not sent."""
        self._sizes = sizes
        self.splits = [0 if rank == me else padded(sum(of)) for rank, of in enumerate(sizes)]
        self.message = empty(sum(self.splits))
        self._parts = self.message.split_with_sizes(self.splits)

    def pieces(self, rank: int) -> tuple[Tensor, ...]:
        """Views to be filled."""
        sizes, part = self._sizes[rank], self._parts[rank]
        *views, rest = part.split_with_sizes([*sizes, len(part) - sum(sizes)])
        rest.zero_()
        return tuple(views)
