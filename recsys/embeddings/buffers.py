"""Memory for what a step makes and the next step makes again.

The allocator gives large blocks back to the system when they are freed, and to touch fresh pages costs as much as
to fill them. A block from here goes back into the pool when the last tensor on it is gone.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

KEPT_BLOCKS = 12
"""A step of the largest kind takes six: ids, rows, vectors, sums, gradients, and their sums over the ranks."""


PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def zeros_in_large_pages(rows: int, dim: int, dtype: torch.dtype) -> Tensor:
    """On the CPU, in pages of 2 MB where the system has them: random rows then rarely miss the page table's cache."""
    size = rows * dim
    size_bytes = size * dtype.itemsize
    if not size_bytes:
        return torch.zeros(rows, dim, dtype=dtype)
    memory = mmap.mmap(-1, size_bytes, flags=PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype, count=size).view(rows, dim)


class Buffers:
    """Uninitialised float32 tensors on the CPU."""

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []

    def empty(self, *shape: int) -> Tensor:
        return self.split([shape])[0]

    def split(self, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Tensors of ``shapes``, side by side in one block; none is a view of another in autograd's eyes."""
        sizes = [math.prod(shape) for shape in shapes]
        if not sum(sizes):
            return [torch.empty(*shape) for shape in shapes]
        whole = self._block(4 * sum(sizes))
        tensors, start = [], 0
        for size, shape in zip(sizes, shapes, strict=True):
            tensors.append(torch.from_numpy(whole[start : start + size].reshape(shape)))
            start += size
        return tensors

    def _block(self, size_bytes: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        block = self._take(size_bytes)
        if block is None:
            block = mmap.mmap(-1, size_bytes + size_bytes // 8, flags=PRIVATE)
        # Slices keep this array alive, so its end is the end of every tensor on the block.
        array = np.frombuffer(block, dtype=np.float32, count=size_bytes // 4)
        weakref.finalize(array, self._give_back, block).atexit = False
        return array

    def _take(self, size_bytes: int) -> mmap.mmap | None:
        """The smallest free block that fits. One may come or go between two lines: finalizers run at any moment."""
        fitting = [block for block in self._free if size_bytes <= len(block) <= 2 * size_bytes]
        for block in sorted(fitting, key=len):
            try:
                self._free.remove(block)
            except ValueError:
                continue
            return block
        return None

    def _give_back(self, block: mmap.mmap) -> None:
        self._free.append(block)
        del self._free[:-KEPT_BLOCKS]
