"""From ids to messages: each distinct row is asked for once, of the rank that holds it.

A message is one tensor, cut into a part for each rank. Parts are padded to sizes that grow by an eighth:
Horovod agrees anew on every shape that it has not seen, and a number of distinct ids is a new shape each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Shape suffixes in this file:
#   P ids of a batch, flat   U distinct rows of a batch, by (rank that holds them, row)   N ranks   G groups

SMALLEST_PART = 64


def padded(size: int) -> int:
    """The smallest size of the series 64, 72, 81, 91 … that is not below ``size``."""
    bucket = SMALLEST_PART
    while bucket < size:
        bucket += bucket // 8
    return bucket


@dataclass(frozen=True)
class Wanted:
    """The distinct rows that a batch asks for in one group of tables."""

    local_rows_U: Tensor
    """int64, the row's number on the rank that holds it."""
    counts_N: list[int]
    """Rows asked of each rank; they lie in this order."""
    place_P: dict[str, Tensor]
    """By table, int64, for each of its ids the place among the U rows."""


def wanted_rows(ids: Mapping[str, Tensor], world_size: int) -> Wanted:
    """Each distinct id once, ordered by the rank that holds it, then by id. ``ids`` by table, int64, (P,)."""
    none = torch.zeros(0, dtype=torch.int64)
    distinct_U, inverse_P = torch.unique(torch.cat([none, *ids.values()]), return_inverse=True)
    owner_U = distinct_U % world_size
    order_U = torch.argsort(owner_U, stable=True)
    place_U = torch.empty_like(order_U)
    place_U[order_U] = torch.arange(len(order_U))
    counts = torch.bincount(owner_U, minlength=world_size).tolist()
    of_tables = place_U[inverse_P].split_with_sizes([len(of_table) for of_table in ids.values()])
    return Wanted(distinct_U[order_U] // world_size, counts, dict(zip(ids, of_tables, strict=True)))


def joined_parts(parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, list[int]]:
    """The message of ``parts`` (for each rank, tensors of one type to send), padded with zeros; and its splits."""
    pieces: list[Tensor] = []
    splits = []
    for part in parts:
        size = sum(len(piece) for piece in part)
        splits.append(padded(size))
        pieces += [*part, part[0].new_zeros(splits[-1] - size)]
    return torch.cat(pieces), splits
