"""Negatives: half uniform, half by popularity, and never what was taken at the same place."""

from __future__ import annotations

import numpy as np
import torch

from recsys.data import generator
from recsys.training.negatives import ItemDraw


def test_half_are_uniform_and_half_follow_the_counts() -> None:
    counts = np.array([0, 0, 10, 30, 0, 60])
    draw = ItemDraw(counts, num_negatives=5)
    assert (draw.num_uniform, draw.num_popular) == (3, 2)
    size = 20_000
    items, _ = draw.shown(torch.arange(size), torch.ones(size, dtype=torch.int64), generator(1))
    assert items.shape == (size, 6) and (items[:, 0] == 1).all()
    uniform = torch.bincount(items[:, 1:4].flatten(), minlength=6) / (3 * size)
    popular = torch.bincount(items[:, 4:].flatten(), minlength=6) / (2 * size)
    torch.testing.assert_close(
        uniform, torch.tensor([0, 0.2, 0.2, 0.2, 0.2, 0.2]), atol=0.01, rtol=0
    )
    torch.testing.assert_close(popular, torch.tensor([0, 0, 0.1, 0.3, 0, 0.6]), atol=0.01, rtol=0)


def test_what_was_taken_at_the_same_place_is_no_negative() -> None:
    draw = ItemDraw(np.array([0, 1, 1, 1]), num_negatives=40)
    query, taken = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 3])
    items, weights = draw.shown(query, taken, generator(2))
    assert (weights[:, 0] == 1).all()
    for row, mine in enumerate([{1, 2}, {1, 2}, {3}]):
        wanted = [float(int(item) not in mine) for item in items[row, 1:]]
        assert weights[row, 1:].tolist() == wanted
        assert 0 < sum(wanted) < 40


def test_the_generator_alone_decides_and_a_shop_without_counts_draws_uniformly() -> None:
    draw = ItemDraw(np.zeros(9, dtype=np.int64), num_negatives=4)
    assert (draw.num_uniform, draw.num_popular) == (4, 0)
    query, taken = torch.arange(5), torch.arange(1, 6)
    first, again, other = (draw.shown(query, taken, generator(s))[0] for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    none, weights = draw.shown(query[:0], taken[:0], generator(3))
    assert none.shape == weights.shape == (0, 5)
