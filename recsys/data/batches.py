"""What a training step gets: a batch of examples, and negatives drawn for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys.data.examples import Examples

# Shape suffixes in this file:
#   B examples in the batch   W places of an example   S negatives


PERMUTED_UP_TO = 16
"""Times as many items as negatives: a catalogue of more is drawn from, not permuted."""


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
    if num_items < PERMUTED_UP_TO * num_negatives:
        return torch.randperm(num_items, generator=draw)[:num_negatives] + 1
    # A permutation of millions for a few thousand would take longer than the step. The first distinct ones of a
    # long enough row of draws are as uniform.
    drawn = torch.randint(1, num_items + 1, (num_negatives,), generator=draw)
    while len(found := _first_of_each(drawn)) < num_negatives:
        more = torch.randint(1, num_items + 1, (num_negatives,), generator=draw)
        drawn = torch.cat([drawn, more])
    return found[:num_negatives]


def _first_of_each(values: Tensor) -> Tensor:
    """The distinct values, in the order in which they first come."""
    _, first = np.unique(values.numpy(), return_index=True)
    return values[torch.from_numpy(np.sort(first))]
