"""Negatives come as often as their chances say, and each once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.training.sampled_items import ItemSample, chances_of

EVENTS = np.array([0, 900, 40, 9, 1, 0, 4, 4, 0])


@given(
    events=st.lists(st.integers(0, 50), min_size=1, max_size=30),
    num=st.integers(1, 40),
    power=st.floats(0, 1.5),
    share=st.floats(0, 1),
)
def test_chances_sum_to_the_number_of_negatives(
    events: list[int], num: int, power: float, share: float
) -> None:
    chances = chances_of(np.array([0, *events]), num, power=power, popular_share=share)
    possible = len(events) if share < 1 or not any(events) else sum(e > 0 for e in events)
    assert chances.sum() == pytest.approx(min(num, possible))
    assert chances[0] == 0
    assert chances.max() <= 1


def test_a_popular_item_has_the_greater_chance_and_every_item_some() -> None:
    chances = chances_of(EVENTS, 4, power=0.5, popular_share=0.5)
    assert chances[1] == 1  # certain: its share would be more
    assert chances[2] > chances[3] > chances[4] > chances[5] == chances[8] > 0


def test_a_small_catalogue_is_taken_whole() -> None:
    items, chances = ItemSample(chances_of(EVENTS, 8, power=0.5, popular_share=0.5)).draw(
        torch.Generator()
    )
    assert items.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert chances.tolist() == [1.0] * 8


def test_items_are_drawn_as_often_as_their_chances_say() -> None:
    chances = chances_of(EVENTS, 3, power=0.5, popular_share=0.5)
    sample, draw = ItemSample(chances), torch.Generator().manual_seed(4)
    counts, rounds = np.zeros(len(EVENTS)), 4000
    for _ in range(rounds):
        items, of_items = sample.draw(draw)
        assert len(set(items.tolist())) == len(items) == 3
        assert of_items.tolist() == chances[items.numpy()].tolist()
        counts[items.numpy()] += 1
    deviation = np.sqrt(chances * (1 - chances) / rounds)
    assert (np.abs(counts / rounds - chances) <= 4.5 * deviation + 1e-12).all()
