"""Steps, random streams and negatives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import draw_negatives, generator, num_steps


@given(share=st.integers(0, 500), batch_size=st.integers(1, 16))
def test_steps_are_enough_for_the_largest_share_and_no_more(share: int, batch_size: int) -> None:
    steps = num_steps(share, batch_size)
    assert steps * batch_size >= share
    assert steps == 1 or (steps - 1) * batch_size < share


def test_a_generator_is_that_of_its_numbers_and_not_of_the_global_one() -> None:
    def draw(*numbers: int) -> list[int]:
        return torch.randperm(50, generator=generator(*numbers)).tolist()

    first = draw(17, 1, 0)
    assert all(draw(*other) != first for other in ((17, 2, 0), (17, 1, 1), (18, 1, 0)))
    torch.manual_seed(99)
    assert draw(17, 1, 0) == first


def test_negatives_are_distinct_items_and_all_of_them_in_a_small_catalogue() -> None:
    drawn = draw_negatives(100, 40, generator(3)).tolist()
    assert len(set(drawn)) == 40
    assert set(drawn) <= set(range(1, 101))
    assert draw_negatives(5, 40, generator(3)).tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("num_items", [15, 16 * 3])  # permuted; drawn until they are distinct
def test_negatives_are_uniform_over_the_catalogue_at_every_place(num_items: int) -> None:
    rounds = 6000
    drawn = torch.stack([draw_negatives(num_items, 3, generator(1, n)) for n in range(rounds)])
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    for place in range(3):
        counts = torch.bincount(drawn[:, place], minlength=num_items + 1)[1:]
        expected = rounds / num_items
        assert (counts - expected).abs().max() < 5 * expected**0.5


def test_negatives_from_millions_of_items_are_distinct_without_permuting_them() -> None:
    drawn = draw_negatives(1 << 60, 5000, generator(3))  # a permutation of these fits nowhere
    assert len(torch.unique(drawn)) == 5000
    again = draw_negatives(1 << 60, 5000, generator(3))
    assert torch.equal(drawn, again)
