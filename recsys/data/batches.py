"""What a training step gets: a batch of examples, and negatives drawn for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys.data.examples import Examples

# Shape suffixes in this file:
#   B examples in the batch   W places of an example   S negatives


class Batch(NamedTuple):
    example_id_B: Tensor
    """int64."""
    user_num_B: Tensor
    """int64, from 1."""
    item_nums_BW: Tensor
    """int64, 0 is padding."""
    ages_days_BW: Tensor
    """float32."""
    targets_BW: Tensor
    """bool."""


def generator(*numbers: int) -> torch.Generator:
    """A random generator that ``numbers`` (a seed, an epoch, a rank …) alone decide."""
    [seed] = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed) >> 1)  # torch takes 63 bits


def num_steps(largest_share: int, batch_size: int) -> int:
    """Steps of an epoch, the same on all ranks: enough for the rank with the most examples."""
    return max(1, -(-largest_share // batch_size))


def batch_of(examples: Examples, chosen_B: Tensor) -> Batch:
    """The rows ``chosen_B`` (int64), item numbers widened to what an embedding lookup takes."""
    rows = examples.rows(chosen_B)
    return Batch(
        rows.example_id_E, rows.user_num_E, rows.item_nums_EW.long(), rows.ages_days_EW, rows.targets_EW
    )  # fmt: skip


def draw_negatives(num_items: int, num_negatives: int, draw: torch.Generator) -> Tensor:
    """(S,) int64: distinct item numbers, uniform over 1 … num_items; all of them where there are fewer."""
    if num_negatives >= num_items:
        return torch.arange(1, num_items + 1)
    return torch.randperm(num_items, generator=draw)[:num_negatives] + 1
