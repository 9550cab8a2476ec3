"""What the encoder promises: causal, blind to padding, the same at a place as at the end of what it saw."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recsys.models import sequential
from recsys.models.sequential import (
    SequentialEncoder,
    SequentialModel,
    first_real,
    gaps_between,
)

LENGTH, NUM_ITEMS, WIDTH = 6, 9, 16


def model(num_blocks: int = 1) -> SequentialModel:
    torch.manual_seed(5)
    encoder = SequentialEncoder(
        embedding_dim=WIDTH, history_length=LENGTH, num_blocks=num_blocks, num_heads=2, dropout=0.5
    )
    made = SequentialModel(num_items=NUM_ITEMS, embedding_dim=WIDTH, encoder=encoder)
    for name, parameter in made.encoder.named_parameters():
        if "by_distance" in name:  # zeros at first: would hide a wrong distance
            torch.nn.init.normal_(parameter)
    return made.eval()


def history(items: list[int], ages: list[float]) -> tuple[Tensor, Tensor]:
    """(1, H) item numbers and gaps, left-padded."""
    padding = LENGTH - len(items)
    nums = torch.tensor([[0] * padding + items])
    ages_1H = torch.tensor([[0.0] * padding + ages])
    return nums, gaps_between(ages_1H, (nums != 0).float())


def test_gaps_are_days_to_the_next_event_and_the_newest_to_as_of() -> None:
    ages = torch.tensor([[0.0, 9.0, 4.0, 4.0, 1.5]])
    mask = torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0]])
    assert gaps_between(ages, mask).tolist() == [[0.0, 5.0, 0.0, 2.5, 1.5]]


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_a_place_sees_itself_and_what_was_before_it_alone(num_blocks: int) -> None:
    made = model(num_blocks)
    seen, seen_gaps = history([3, 4, 5, 6, 7, 8], [60.0, 50.0, 30.0, 20.0, 9.0, 1.0])
    other = seen.clone()
    other[0, 4:] = torch.tensor([1, 2])
    gaps = seen_gaps.clone()
    gaps[0, 4:] = torch.tensor([2.0, 7.0])
    row, place = torch.tensor([0]), torch.tensor([3])
    torch.testing.assert_close(
        made.at_places(seen, seen_gaps, row, place), made.at_places(other, gaps, row, place)
    )


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_a_place_in_training_is_the_newest_place_in_scoring(num_blocks: int) -> None:
    made = model(num_blocks)
    whole, gaps = history([3, 4, 5, 6, 7], [60.0, 50.0, 30.0, 20.0, 9.0])
    # Place 3 of the whole is item 5, 10 days before the next event: the moment that is asked about.
    cut, cut_gaps = history([3, 4, 5], [40.0, 30.0, 10.0])
    torch.testing.assert_close(
        made.at_places(whole, gaps, torch.tensor([0]), torch.tensor([3])),
        made.user_vectors(cut, cut_gaps),
        rtol=1e-4,
        atol=1e-5,
    )


def test_what_stands_in_padding_does_not_matter() -> None:
    made = model()
    nums, gaps = history([3, 4], [5.0, 1.0])
    vectors, mask = made.items(nums), (nums != 0).float()
    dirty_vectors, dirty_gaps = vectors.clone(), gaps.clone()
    dirty_vectors[0, :4], dirty_gaps[0, :4] = 7.0, 3.0
    torch.testing.assert_close(
        made.encoder(vectors, gaps, mask), made.encoder(dirty_vectors, dirty_gaps, mask)
    )


def test_an_empty_history_gives_zeros() -> None:
    nums, gaps = history([], [])
    assert torch.equal(model().user_vectors(nums, gaps), torch.zeros(1, WIDTH))


def test_the_same_items_at_other_times_are_another_user() -> None:
    made = model()
    recent = made.user_vectors(*history([3, 4], [2.0, 1.0]))
    long_ago = made.user_vectors(*history([3, 4], [200.0, 190.0]))
    assert (recent - long_ago).abs().max() > 1e-3


def test_padding_has_a_zero_vector_that_does_not_learn() -> None:
    made = model().train()
    nums, gaps = history([3, 4], [5.0, 1.0])
    total = made.at_places(nums, gaps, torch.tensor([0]), torch.tensor([5])).sum()
    total.backward()  # type: ignore[no-untyped-call]
    assert made.items.weight.grad is not None
    assert not made.items.weight.grad[0].any()
    assert not made.items.weight[0].any()


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_places_are_the_same_whether_few_or_all_of_them_ask(
    num_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model(num_blocks)
    nums = torch.tensor([[0, 3, 4, 5, 6, 7], [0, 0, 0, 0, 2, 9], [0, 1, 1, 2, 1, 3]])
    ages = torch.arange(6, 0, -1).float().expand(3, 6) * 3.0
    gaps = gaps_between(ages, (nums != 0).float())
    rows, places = (nums != 0).nonzero().T
    found = []
    for share in (0.0, 2.0):
        monkeypatch.setattr(sequential, "DENSE_FROM", share)
        found.append(made.at_places(nums, gaps, rows, places))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 2.0])
def test_padding_before_the_longest_history_changes_nothing(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequential, "DENSE_FROM", share)
    made = model(2)
    nums, gaps = history([3, 4, 5], [40.0, 30.0, 10.0])
    whole, whole_gaps = history([1, 2, 6, 3, 4, 5], [90.0, 80.0, 70.0, 40.0, 30.0, 10.0])
    row, place = torch.tensor([0]), torch.tensor([5])
    alone = made.at_places(nums, gaps, row, place)
    beside_a_long_one = made.at_places(
        torch.cat([nums, whole]), torch.cat([gaps, whole_gaps]), row, place
    )
    torch.testing.assert_close(alone, beside_a_long_one, rtol=1e-4, atol=1e-5)


def test_the_leftmost_place_of_any_history_is_found() -> None:
    mask = torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    assert first_real(mask) == 2
    assert first_real(torch.zeros(2, 4)) == 3
    assert first_real(torch.ones(2, 4)) == 0
