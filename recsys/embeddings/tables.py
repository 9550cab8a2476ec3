"""What an embedding table is, and the update rules that touch only the rows a batch asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from recsys.errors import ConfigError

# Shape suffixes in this file:
#   R rows of a shard   U distinct rows that an update touches   D embedding width

Slots = dict[str, Tensor]
"""State of an update rule, one row per row of the shard."""

INITIAL_CHUNK_ROWS = 65_536


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
    """A table of ``rows`` vectors of width ``dim``, ids 0 to rows - 1.

    Raises:
        ConfigError: no rows or no width.
    """

    name: str
    rows: int
    dim: int
    rule: RowRule
    pooling: Literal["none", "sum", "mean"] = "none"
    """none: one vector per id. sum, mean: one per bag of ids; an empty bag is zeros."""
    initial_std: float = 0.01
    """Fresh rows are normal with this deviation."""
    padding: bool = False
    """Row 0 stands for nothing: it is zeros and never learns, and in a bag it counts for nothing."""

    def __post_init__(self) -> None:
        if self.rows < 1 or self.dim < 1:
            raise ConfigError(
                f"embedding table {self.name!r} has {self.rows} rows of width {self.dim}: both must be >= 1"
            )

    @property
    def weight_bytes(self) -> int:
        """In float32."""
        return 4 * self.rows * self.dim

    @property
    def bytes_per_row(self) -> int:
        """Row and state, in float32."""
        state = self.rule.floats_per_row * (self.dim if self.rule.wide else 1)
        return 4 * (self.dim + state)


def fill_fresh(rows_RD: Tensor, table: EmbeddingTable, place: Sequence[int], wanted: slice) -> None:
    """Fill ``rows_RD`` with the rows ``wanted`` of a fresh table; ``place`` seeds it.

    A row is the same whoever asks for it. Drawn chunk by chunk, each from a generator of its own, so that no
    process ever holds more of the table than its rows.
    """
    first, step, filled = wanted.start, wanted.step, 0
    for number, start in enumerate(range(0, table.rows, INITIAL_CHUNK_ROWS)):
        stop = min(start + INITIAL_CHUNK_ROWS, table.rows)
        [seed] = np.random.SeedSequence((*place, number)).generate_state(1, np.uint64)
        draw = torch.Generator().manual_seed(int(seed) >> 1)  # torch takes 63 bits
        chunk = torch.randn(stop - start, table.dim, generator=draw, dtype=torch.float32)
        mine = chunk[(first - start) % step :: step]
        rows_RD[filled : filled + len(mine)].copy_(mine).mul_(table.initial_std)
        filled += len(mine)
