"""Examples in a shuffled order that (seed, epoch, rank) alone decide."""

from __future__ import annotations

from collections.abc import Iterator
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


def epoch_batches(examples: Examples, *, steps: int, shuffle: torch.Generator) -> Iterator[Batch]:
    """Every example once, in ``steps`` batches of nearly equal size; nothing is left over.

    Ranks have unequal shares, and a rank that stopped early would leave the others waiting in an
    allreduce. So all take the same ``steps``, and a smaller share makes smaller batches (empty ones
    where there are fewer examples than steps).
    """
    order_E = torch.randperm(len(examples), generator=shuffle)
    for chosen_B in torch.tensor_split(order_E, steps):
        yield Batch(
            examples.example_id_E[chosen_B],
            examples.item_nums_EW[chosen_B].long(),
            examples.ages_days_EW[chosen_B],
            examples.targets_EW[chosen_B],
        )


def draw_negatives(num_items: int, num_negatives: int, draw: torch.Generator) -> Tensor:
    """(S,) int64: distinct item numbers, uniform over 1 … num_items; all of them where there are fewer."""
    if num_negatives >= num_items:
        return torch.arange(1, num_items + 1)
    return torch.randperm(num_items, generator=draw)[:num_negatives] + 1
