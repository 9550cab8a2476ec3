"""What an embedding table is, and the update rules that touch only the rows a batch asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.errors import ConfigError

# Shape suffixes in this file:
#   R rows of a shard   B rows drawn at once   U distinct rows that an update touches   D embedding width

Slots = dict[str, Tensor]
"""State of an update rule, one row per row of the shard."""

BLOCK_VALUES = 65_536
"""Drawn at once: they fit the cache."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
HALVES = np.uint64(0x0000FFFF0000FFFF)


class RowRule(Protocol):
    """An optimizer of single rows: what was not asked for is neither read nor written."""

    @property
    def floats_per_row(self) -> int:
        """State beside the row, at width 1; multiplied by the width where ``wide``."""

    @property
    def wide(self) -> bool: ...

    def slots(self, weight_RD: Tensor) -> Slots:
        """Fresh state for a shard."""

    def update(
        self, weight_RD: Tensor, slots: Slots, rows_U: Tensor, grad_UD: Tensor, step: int
    ) -> None:
        """Update ``rows_U`` (int64, each once) in place. ``step`` counts from 1."""


@dataclass(frozen=True)
class Sgd:
    learning_rate: float
    floats_per_row = 0
    wide = False

    def slots(self, weight_RD: Tensor) -> Slots:
        return {}

    def update(
        self, weight_RD: Tensor, slots: Slots, rows_U: Tensor, grad_UD: Tensor, step: int
    ) -> None:
        weight_RD.index_add_(0, rows_U, grad_UD, alpha=-self.learning_rate)


@dataclass(frozen=True)
class RowwiseAdagrad:
    """One accumulator a row: the mean of the row's squared gradients, summed over the steps.

    As FBGEMM's EXACT_ROWWISE_ADAGRAD: 4 bytes of state where Adagrad has 4 D.
    """

    learning_rate: float
    epsilon: float = 1e-8
    floats_per_row = 1
    wide = False

    def slots(self, weight_RD: Tensor) -> Slots:
        return {"sum": weight_RD.new_zeros(len(weight_RD))}

    def update(
        self, weight_RD: Tensor, slots: Slots, rows_U: Tensor, grad_UD: Tensor, step: int
    ) -> None:
        sum_U = slots["sum"][rows_U] + grad_UD.square().mean(dim=1)
        slots["sum"][rows_U] = sum_U
        scale_U = -self.learning_rate / (sum_U.sqrt() + self.epsilon)
        weight_RD.index_add_(0, rows_U, grad_UD * scale_U.unsqueeze(1))


@dataclass(frozen=True)
class LazyAdam:
    """Adam on the rows of the batch alone; bias is corrected by the global step, as torch's SparseAdam does."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    floats_per_row = 2
    wide = True

    def rate(self, step: int) -> float:
        """The learning rate with the correction of both moments' bias."""
        corrected = math.sqrt(1 - self.beta2**step) / (1 - self.beta1**step)
        return self.learning_rate * corrected

    def slots(self, weight_RD: Tensor) -> Slots:
        return {"mean": torch.zeros_like(weight_RD), "square": torch.zeros_like(weight_RD)}

    def update(
        self, weight_RD: Tensor, slots: Slots, rows_U: Tensor, grad_UD: Tensor, step: int
    ) -> None:
        mean_UD = slots["mean"][rows_U].lerp_(grad_UD, 1 - self.beta1)
        square_UD = slots["square"][rows_U].lerp_(grad_UD.square(), 1 - self.beta2)
        slots["mean"][rows_U], slots["square"][rows_U] = mean_UD, square_UD
        delta_UD = mean_UD / (square_UD.sqrt() + self.epsilon)
        weight_RD.index_add_(0, rows_U, delta_UD, alpha=-self.rate(step))


@dataclass(frozen=True)
class EmbeddingTable:
    """A table of ``num_rows`` vectors of width ``dim``, ids 0 to num_rows - 1.

    Raises:
        ConfigError: no rows or no width.
    """

    name: str
    num_rows: int
    dim: int
    rule: RowRule
    pooling: Literal["none", "sum", "mean"] = "none"
    """none: one vector per id. sum, mean: one per bag of ids; an empty bag is zeros."""
    initial_std: float = 0.01
    """Deviation of fresh rows, which are nearly normal."""
    padding: bool = False
    """Row 0 stands for nothing: it is zeros and never learns, and in a bag it counts for nothing."""

    def __post_init__(self) -> None:
        if self.num_rows < 1 or self.dim < 1:
            raise ConfigError(
                f"embedding table {self.name!r} has {self.num_rows} rows of width {self.dim}: both must be >= 1"
            )

    @property
    def weight_bytes(self) -> int:
        """In float32."""
        return 4 * self.num_rows * self.dim

    @property
    def bytes_per_row(self) -> int:
        """Row and state, in float32."""
        state = self.rule.floats_per_row * (self.dim if self.rule.wide else 1)
        return 4 * (self.dim + state)


def fill_fresh(rows_RD: Tensor, table: EmbeddingTable, place: Sequence[int], wanted: slice) -> None:
    """Fill ``rows_RD`` with the rows ``wanted`` (none to the end of the table) of a fresh table; ``place`` seeds it.

    A row is the same whoever asks for it, and nobody draws another's: value n of a table is a hash of n alone.
    """
    [key] = np.random.SeedSequence(tuple(place)).generate_state(1, np.uint64)
    nums_R = np.arange(wanted.start, table.num_rows, wanted.step, dtype=np.uint64)
    at_once = max(1, BLOCK_VALUES // table.dim)
    for start in range(0, len(nums_R), at_once):
        values_BD = nearly_normal(nums_R[start : start + at_once], table.dim, key)
        part = rows_RD[start : start + at_once]
        part.copy_(torch.from_numpy(values_BD)).mul_(table.initial_std)


def nearly_normal(nums_B: NDArray[np.uint64], dim: int, key: np.uint64) -> NDArray[np.float32]:
    """Rows of a matrix of deviation 1: sums of four uniform numbers, so never beyond 3.5.

    The 16 bits of each are a quarter of a hash of the value's place, the finalizer of SplitMix64 (Steele, Lea and
    Flood, 2014). Whole numbers up to the last step: the same bits on every machine.
    """
    columns_D = np.arange(dim, dtype=np.uint64) * GOLDEN
    with np.errstate(over="ignore"):  # numbers are those modulo 2^64
        bits_BD = np.add.outer(nums_B * (np.uint64(dim) * GOLDEN) + key, columns_D)
    shifted_BD = np.empty_like(bits_BD)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        np.right_shift(bits_BD, np.uint64(shift), out=shifted_BD)
        bits_BD ^= shifted_BD
        bits_BD *= np.uint64(factor)
    # Two sums of two, side by side, then their sum.
    np.right_shift(bits_BD, np.uint64(16), out=shifted_BD)
    shifted_BD &= HALVES
    bits_BD &= HALVES
    bits_BD += shifted_BD
    np.right_shift(bits_BD, np.uint64(32), out=shifted_BD)
    bits_BD += shifted_BD
    bits_BD &= np.uint64(0xFFFFFFFF)
    values_BD = bits_BD.astype(np.float32)
    values_BD -= np.float32(2 * 0xFFFF)
    values_BD *= np.float32(1 / math.sqrt(4 * (65536**2 - 1) / 12))
    return values_BD
