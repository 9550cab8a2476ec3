"""Random vectors, and what others stand beside: the plain float32 product of two sides of them, which finds nothing,
and a copy of a batch's scores from memory to memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

# Shape suffixes in this file:
#   B users   N items   D embedding width

BATCH = 1024
"""Users at a time."""

Floats = NDArray[np.float32]


def vectors(rows: int, dim: int, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def product(users_BD: Floats, items_ND: Floats) -> Callable[[], None]:
    """The scores of all pairs, a batch at a time, into the same memory."""
    users, items = torch.from_numpy(users_BD), torch.from_numpy(items_ND).T
    out = torch.empty(min(BATCH, len(users)), items.shape[1])

    def multiply() -> None:
        for batch in users.split(BATCH):
            torch.mm(batch, items, out=out[: len(batch)])

    return multiply


def copy(items: int) -> Callable[[], object]:
    """A batch's scores, from memory to memory."""
    source = torch.ones(BATCH, items)
    out = torch.zeros(BATCH, items)
    return lambda: out.copy_(source)


def copy_bytes(items: int) -> int:
    """Read and written by ``copy``."""
    return 2 * BATCH * items * torch.float32.itemsize
