"""The first pass of stage 1 in torch, on a GPU or, for its tests, on a processor; the second is that of ``plain``.

Products are float32 throughout (no TF32), item-item sums float64. Their order is the device's own: the bounds on their
rounding hold for any.

Shape suffixes: B users, N catalogue (num_items + 1), D embedding width, P pairs, E entries of the item-item matrices.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.errors import MissingInput
from recsys.scoring.plain import ITEM_ITEM_SCALE, Candidates, floors, margins
from recsys.scoring.select import Asked, Matrix, Vectors

FLUSHED = 2.0**-126
"""A number below it may count as 0 on a GPU."""


class OnDevice:
    """Keeps the catalogue's arrays on the device between batches; one per thread of the caller."""

    block_cells = 64_000_000
    """Users x items at a time: some 2 GB."""

    def __init__(self, device: str) -> None:
        """Raises MissingInput where there is no such device."""
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise MissingInput(
                f"scoring.device is {device} and torch finds no GPU here: set scoring.device=cpu, or give each task "
                "a GPU (spark.task.resource.gpu.amount) and install torch for CUDA"
            )
        self._device = torch.device(device)
        self._kept: dict[tuple[int, tuple[int, ...]], tuple[NDArray[Any], Tensor]] = {}

    def __call__(self, asked: Asked, start: int, stop: int) -> Candidates:
        width = asked.width
        scores_BN = self._bases(asked, start, stop)
        off_B = np.zeros(stop - start)
        if asked.vectors is not None:
            off_B += self._add_products(scores_BN, asked.vectors, start, stop)
        raw_BN, repeat_BN = self._item_item(asked, start, stop)
        scores_BN += torch.log1p(ITEM_ITEM_SCALE * raw_BN).float()
        for flat in asked.hidden:
            rows, nums = flat.places(start, stop, width)
            scores_BN[self._there(rows), self._there(nums.astype(np.int64))] = -torch.inf
        largest_B = raw_BN.amax(dim=1).cpu().numpy()
        bound_B = torch.topk(scores_BN, min(asked.m, width)).values[:, -1].cpu().numpy()
        margin_B = margins(asked, start, largest_B) + 2 * off_B
        floor_B = floors(bound_B.astype(np.float64) - margin_B)
        keys_P = torch.nonzero((scores_BN >= self._there(floor_B)[:, None]).view(-1)).view(-1)
        parts = (keys_P, raw_BN.view(-1)[keys_P], repeat_BN.view(-1)[keys_P])
        return Candidates(*(part.cpu().numpy() for part in parts))

    def _bases(self, asked: Asked, start: int, stop: int) -> Tensor:
        rows = torch.stack([self._there(row[: asked.width]) for row in asked.bases.distinct])
        return rows[self._there(asked.bases.place_B[start:stop])]

    def _add_products(
        self, scores_BN: Tensor, vectors: Vectors, start: int, stop: int
    ) -> NDArray[np.float64]:
        """Returns what a product may be off where tiny numbers count as 0."""
        items_ND = self._held(vectors.items)
        known, dim = items_ND.shape
        scaled_BD = self._there(vectors.scaled_BD[start:stop])
        scores_BN[:, :known] += _product(scaled_BD, items_ND)
        scores_BN[:, known:] += self._there(vectors.at_the_mean_B[start:stop])[:, None]
        largest = float(items_ND.abs().amax()) if items_ND.numel() else 0.0
        users_B = np.abs(vectors.scaled_BD[start:stop].astype(np.float64)).max(axis=1, initial=0.0)
        off_B: NDArray[np.float64] = dim * FLUSHED * (1.0 + largest + users_B)
        return off_B

    def _item_item(self, asked: Asked, start: int, stop: int) -> tuple[Tensor, Tensor]:
        shape = stop - start, asked.width
        raw_BN = torch.zeros(shape, dtype=torch.float64, device=self._device)
        repeat_BN = torch.zeros_like(raw_BN)
        if asked.item_item is None:
            return raw_BN, repeat_BN
        history, repeats, *others, _ = asked.item_item
        mine = slice(history.offsets[start], history.offsets[stop])
        counts = np.diff(history.offsets[start : stop + 1])
        firsts = self._there(np.repeat(np.arange(stop - start) * asked.width, counts))
        nums, values = self._there(history.nums[mine].astype(np.int64)), history.values[mine]
        for matrix, weight in others:
            if weight > 0:
                self._add_rows(raw_BN, matrix, firsts, nums, self._there(weight * values))
        if repeats is not None:
            repeat_BN.view(-1).index_add_(0, firsts + nums, self._there(repeats[mine]))
        return raw_BN + repeat_BN, repeat_BN

    def _add_rows(
        self, raw_BN: Tensor, matrix: Matrix, firsts: Tensor, nums: Tensor, values: Tensor
    ) -> None:
        """To the user's row that begins at each of ``firsts``: row ``nums`` of the matrix, times the value."""
        offsets, others, weights = (self._held(part) for part in matrix)
        counts = offsets[nums + 1] - offsets[nums]
        before = torch.cumsum(counts, dim=0) - counts
        entries_E = torch.repeat_interleave(offsets[nums] - before, counts)
        entries_E += torch.arange(len(entries_E), device=self._device)
        places_E = torch.repeat_interleave(firsts, counts) + others[entries_E]
        added_E = torch.repeat_interleave(values, counts) * weights[entries_E]
        raw_BN.view(-1).index_add_(0, places_E, added_E)

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


def _product(users_BD: Tensor, items_ND: Tensor) -> Tensor:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(
        "highest"
    )  # the bound is one of float32, whatever this process chose
    try:
        return users_BD @ items_ND.T
    finally:
        torch.set_float32_matmul_precision(before)
