"""Order, steps and negatives: decided by seed, epoch and rank alone."""

from __future__ import annotations

from itertools import chain

import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import Examples, draw_negatives, epoch_batches, generator, num_steps


def examples(count: int) -> Examples:
    nums = torch.arange(count, dtype=torch.int32).unsqueeze(1)
    return Examples(torch.arange(count), nums, nums.float(), nums.bool())


def order(count: int, steps: int, *place: int) -> list[list[int]]:
    batches = epoch_batches(examples(count), steps=steps, shuffle=generator(*place))
    return [batch.example_id_B.tolist() for batch in batches]


@given(shares=st.lists(st.integers(1, 60), min_size=1, max_size=4), batch_size=st.integers(1, 16))
def test_unequal_shares_take_equal_steps_and_leave_nothing_over(
    shares: list[int], batch_size: int
) -> None:
    steps = num_steps(max(shares), batch_size)
    for share in shares:
        batches = order(share, steps, 1)
        assert len(batches) == steps
        assert sorted(chain.from_iterable(batches)) == list(range(share))
        assert max(map(len, batches)) <= batch_size


def test_the_order_is_that_of_seed_epoch_and_rank() -> None:
    assert order(50, 5, 17, 1, 0) == order(50, 5, 17, 1, 0)
    others = [order(50, 5, *place) for place in ((17, 2, 0), (17, 1, 1), (18, 1, 0))]
    assert all(other != order(50, 5, 17, 1, 0) for other in others)
    # Not by chance of the global generator.
    torch.manual_seed(99)
    assert order(50, 5, 17, 1, 0) == order(50, 5, 17, 1, 0)


def test_negatives_are_distinct_items_and_all_of_them_in_a_small_catalogue() -> None:
    drawn = draw_negatives(100, 40, generator(3)).tolist()
    assert len(set(drawn)) == 40
    assert set(drawn) <= set(range(1, 101))
    assert draw_negatives(5, 40, generator(3)).tolist() == [1, 2, 3, 4, 5]
