"""The float32 pass of stage 1 in torch, on a GPU: whatever can be among the best, for the compiled kernel to rank.

It has the kernel's bounds, which hold for sums in any order, so what a device adds up first decides nothing. Its code
runs on a processor, too, for tests.

Shape suffixes: B users, N catalogue (num_items + 1), D embedding width, E entries of the item-item matrices.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.errors import MissingInput
from recsys.scoring.plain import ITEM_ITEM_SCALE, floors
from recsys.scoring.select import Asked, Flat, ItemItem, Together, Vectors

FLUSHED = 2.0**-126
"""A number below it may count as 0 on a GPU."""
CELL_BYTES = 48
"""Of a user and an item while a block is worked on, with as much again for what the history adds."""
MOST_CELLS = 64_000_000
"""Users x items of a block."""


class OnDevice:
    """Keeps the catalogue's arrays on the device between batches; they must fit there. One per thread of the caller."""

    def __init__(self, device: str) -> None:
        """Raises MissingInput where there is no such device."""
        self._device = torch.device(device)
        self._cells = MOST_CELLS
        self._kept: dict[tuple[int, tuple[int, ...]], tuple[NDArray[Any], Tensor]] = {}
        self._largest_of: dict[int, float] = {}
        torch.set_float32_matmul_precision("highest")  # the bounds are those of float32
        if self._device.type == "cuda":
            self._check_gpu()
            free, _ = torch.cuda.mem_get_info(self._device)
            self._cells = min(MOST_CELLS, free // (2 * CELL_BYTES))

    def _check_gpu(self) -> None:
        found = torch.cuda.device_count()
        if (self._device.index or 0) >= found:
            raise MissingInput(
                f"scoring.device is cuda, this task's GPU {self._device}, and torch finds {found} here: set "
                "scoring.device=cpu, or give each task a GPU (spark.task.resource.gpu.amount) and install torch "
                "for CUDA"
            )

    def candidates(self, asked: Asked) -> Flat:
        """Of each user, every item that can be among the best ``m``, ascending."""
        block = max(1, self._cells // asked.width)
        counts, nums = [np.zeros(1, np.int64)], [np.zeros(0, np.int32)]
        for start in range(0, len(asked), block):
            counts_B, found = self._block(asked, start, min(start + block, len(asked)))
            counts.append(counts_B)
            nums.append(found)
        return Flat(np.cumsum(np.concatenate(counts)), np.concatenate(nums))

    def _block(self, asked: Asked, start: int, stop: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """How many of each user, and which."""
        width, users = asked.width, stop - start
        rows = torch.stack([self._there(row[:width]) for row in asked.bases.distinct])
        scores_BN = rows[self._there(asked.bases.place_B[start:stop])]
        off_B, is_never_below_0 = np.zeros(users), np.ones(users, dtype=bool)
        if asked.vectors is not None:
            off_B += self._add_products(scores_BN, asked.vectors, start, stop)
            is_never_below_0 &= (
                asked.vectors.model * asked.vectors.inverse_spread_B[start:stop] == 0
            )
        if asked.item_item is not None:
            off_B += self._add_item_item(scores_BN, asked.item_item, start, stop)
        for flat in asked.hidden:
            hidden, nums = flat.places(start, stop, width)
            scores_BN[self._there(hidden), self._there(nums.astype(np.int64))] = -torch.inf
        m = min(asked.m, width)
        bound_B = torch.topk(scores_BN, m).values[:, -1].double().cpu().numpy()
        floor_B = floors(bound_B - asked.margin_B[start:stop] - 2 * off_B)
        found_BN = scores_BN >= self._there(floor_B)[:, None]
        if is_never_below_0.any():
            # Of what has nothing in its favour, the first m are enough.
            nothing_BN = (scores_BN == 0) & self._there(is_never_below_0)[:, None]
            found_BN &= ~nothing_BN | (nothing_BN.cumsum(dim=1, dtype=torch.int32) <= m)
        places = torch.nonzero(found_BN.view(-1)).view(-1)
        return found_BN.sum(dim=1).cpu().numpy(), (places % width).int().cpu().numpy()

    def _add_products(
        self, scores_BN: Tensor, vectors: Vectors, start: int, stop: int
    ) -> NDArray[np.float64]:
        """Returns what a product may be off where tiny numbers count as 0."""
        items_ND = self._held(vectors.items)
        known, dim = items_ND.shape
        scaled_BD = vectors.scaled_BD[start:stop]
        scores_BN[:, :known] += self._there(scaled_BD) @ items_ND.T
        scores_BN[:, known:] += self._there(vectors.at_the_mean_B[start:stop])[:, None]
        users_B = np.abs(scaled_BD).max(axis=1, initial=0.0).astype(np.float64)
        off_B: NDArray[np.float64] = dim * FLUSHED * (1.0 + self._largest(vectors.items) + users_B)
        return off_B

    def _largest(self, items_ND: NDArray[np.float32]) -> float:
        address = items_ND.ctypes.data
        if address not in self._largest_of:
            numbers = self._held(items_ND)
            self._largest_of[address] = float(numbers.abs().amax()) if numbers.numel() else 0.0
        return self._largest_of[address]

    def _add_item_item(
        self, scores_BN: Tensor, item_item: ItemItem, start: int, stop: int
    ) -> NDArray[np.float64]:
        """Returns what the sums may be off, as ``Edits.append`` in blend.h has it."""
        users, width = scores_BN.shape
        history, repeats = item_item.history, item_item.repeats
        mine = slice(history.offsets[start], history.offsets[stop])
        nums, values = history.nums[mine].astype(np.int64), history.values[mine]
        owners = np.repeat(np.arange(users), np.diff(history.offsets[start : stop + 1]))
        firsts = self._there(owners * width)
        sums_BN = torch.zeros_like(scores_BN)
        lengths = self._add_rows(
            sums_BN, item_item.together, firsts, self._there(nums), self._there(values.astype(np.float32))
        )  # fmt: skip
        if repeats is not None:
            own = self._there(repeats[mine].astype(np.float32))
            sums_BN.view(-1).index_add_(0, firsts + self._there(nums), own)
        terms_B = np.bincount(owners, weights=lengths + 1.0, minlength=users)
        logs_BN = torch.log1p_(sums_BN.mul_(ITEM_ITEM_SCALE))
        largest_B = logs_BN.amax(dim=1).double().cpu().numpy()
        scores_BN += logs_BN
        return np.where(largest_B > 0, (2 * terms_B + 8) * 2.0**-24 + largest_B * 2.0**-19, 0.0)

    def _add_rows(
        self, sums_BN: Tensor, together: Together, firsts: Tensor, nums: Tensor, values: Tensor
    ) -> NDArray[np.int64]:
        """To the user's row that begins at each of ``firsts``: row ``nums`` of the matrices, times the value.

        Returns how long those rows are.
        """
        offsets = self._held(together.offsets)
        others, weights = (self._held(together.entries[name]) for name in ("num", "value"))
        counts = offsets[nums + 1] - offsets[nums]
        before = torch.cumsum(counts, dim=0) - counts
        entries_E = torch.repeat_interleave(offsets[nums] - before, counts)
        entries_E += torch.arange(len(entries_E), device=self._device)
        places_E = torch.repeat_interleave(firsts, counts) + others[entries_E]
        added_E = torch.repeat_interleave(values, counts) * weights[entries_E]
        sums_BN.view(-1).index_add_(0, places_E, added_E)
        return counts.cpu().numpy()

    def _there(self, array: NDArray[Any]) -> Tensor:
        with warnings.catch_warnings():
            # A memory-mapped file must not be written through a tensor, and is not.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _held(self, array: NDArray[Any]) -> Tensor:
        """Brought there once. The array is held, too, so that no other one can come to lie in its place."""
        key = array.ctypes.data, array.shape
        if key not in self._kept:
            self._kept[key] = array, self._there(array)
        return self._kept[key][1]
