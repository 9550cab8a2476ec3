"""Where in an epoch a training run is, and which examples a rank has left from there.

An epoch that is trained through by one number of ranks has one leg. A run that goes on with another number of
ranks begins a new leg, whose ranks share out what the ranks of the leg before had left. A position is the legs:
world size, steps agreed and steps done. With the seed and the files it decides every batch, so nothing else
about the loader needs to be in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor

from recsys.config.base import Config
from recsys.data.batches import generator

# Shape suffixes in this file:
#   E examples of one rank's share   L of them, those not yet in a batch   N examples of all ranks
Numbers = npt.NDArray[np.int64]

ORDER = 1
"""What the random numbers are for: part of their seed, so that no two uses share a stream."""


class Leg(Config):
    """Steps of one epoch by one number of ranks."""

    world_size: int = Field(ge=1)
    steps: int = Field(ge=1)
    """Steps that the ranks agreed on for all that was left (see ``num_steps``)."""
    done: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _done_is_within_steps(self) -> Self:
        if self.done > self.steps:
            raise ValueError(f"done={self.done} of steps={self.steps}: a leg has no further steps")
        return self


class EpochPosition(Config):
    """A place in an epoch."""

    epoch: int = Field(ge=0)
    legs: tuple[Leg, ...] = ()
    """Oldest first; empty before the epoch's first step."""

    def under_way(self, world_size: int) -> Leg | None:
        """The last leg where it is of ``world_size`` ranks and so goes on; None where a new one must begin."""
        if self.legs and self.legs[-1].world_size == world_size:
            return self.legs[-1]
        return None

    def before(self, world_size: int) -> tuple[Leg, ...]:
        """The legs whose left-over examples the leg of ``world_size`` ranks takes up."""
        return self.legs[:-1] if self.under_way(world_size) else self.legs


def batch_start(num_examples: int, steps: int, step: int) -> int:
    """Where batch ``step`` begins when examples are cut into ``steps`` batches of nearly equal size."""
    size, larger = divmod(num_examples, steps)
    return step * size + min(step, larger)


def batch_sizes(shares: Sequence[int], steps: int, step: int) -> list[int]:
    """How many examples each rank has in batch ``step``, from how many each has in its share."""
    return [
        batch_start(share, steps, step + 1) - batch_start(share, steps, step) for share in shares
    ]


def order_of(num_examples: int, *, seed: int, epoch: int, rank: int, size: int) -> Tensor:
    """(E,) int64: the order of a rank's share, decided by seed, epoch, rank and world size alone."""
    return torch.randperm(num_examples, generator=generator(seed, epoch, rank, size, ORDER))


def taken_up(
    counts: Sequence[int], legs: Sequence[Leg], *, seed: int, epoch: int, rank: int, size: int
) -> Numbers:
    """Ascending numbers of the examples that ``rank`` of ``size`` takes up after ``legs``.

    The examples of the first leg's ranks, ``counts`` of them, are numbered through rank by rank. Every leg deals
    out what the one before left, one example to each rank in turn, so that shares differ by one at most.
    """
    ends = np.cumsum([0, *counts])
    shares = [np.arange(*span) for span in pairwise(ends)]
    sizes = [*(leg.world_size for leg in legs[1:]), size]
    for leg, next_size in zip(legs, sizes, strict=True):
        left_N = np.concatenate([
            _left_over(share_E, leg, seed=seed, epoch=epoch, rank=number)
            for number, share_E in enumerate(shares)
        ])  # fmt: skip
        shares = [np.sort(left_N[number::next_size]) for number in range(next_size)]
    return shares[rank]


def _left_over(share_E: Numbers, leg: Leg, *, seed: int, epoch: int, rank: int) -> Numbers:
    order_E = order_of(len(share_E), seed=seed, epoch=epoch, rank=rank, size=leg.world_size)
    left_L = order_E[batch_start(len(share_E), leg.steps, leg.done) :]
    return np.asarray(share_E[left_L.numpy()])
