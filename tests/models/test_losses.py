"""Sampled softmax against the formula, written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recsys.models.losses import sampled_softmax_loss

NUM_ITEMS, WIDTH = 7, 4


def loss_of(
    users: Tensor, items: Tensor, query: Tensor, positive: Tensor, negatives: Tensor
) -> Tensor:
    return sampled_softmax_loss(
        users, items[positive], items[negatives],
        query_of_P=query, item_nums_P=positive, negatives_S=negatives,
        chances_S=len(negatives) / NUM_ITEMS,
    )  # fmt: skip


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def test_with_every_item_as_negative_it_is_the_full_softmax() -> None:
    users, items = drawn(2, WIDTH), drawn(NUM_ITEMS + 1, WIDTH, seed=1)
    query, positive = torch.tensor([0, 1]), torch.tensor([3, 6])

    loss = loss_of(users, items, query, positive, torch.arange(1, NUM_ITEMS + 1))

    logits = users @ items[1:].T  # row 0 is padding: no item
    assert loss.item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, positive - 1).item(), rel=1e-6
    )


def test_the_negatives_stand_for_the_whole_catalogue() -> None:
    users, items = drawn(1, WIDTH), drawn(NUM_ITEMS + 1, WIDTH, seed=1)
    negatives = torch.tensor([2, 5])

    loss = loss_of(users, items, torch.tensor([0]), torch.tensor([3]), negatives)

    scores = (users @ items.T)[0].tolist()
    rest = NUM_ITEMS / 2 * sum(math.exp(scores[n]) for n in (2, 5))
    assert loss.item() == pytest.approx(
        -math.log(math.exp(scores[3]) / (math.exp(scores[3]) + rest)), rel=1e-5
    )


def test_an_item_predicted_from_a_place_is_no_negative_of_that_place() -> None:
    users, items = drawn(2, WIDTH), drawn(NUM_ITEMS + 1, WIDTH, seed=1)
    query, positive = torch.tensor([0, 0, 1]), torch.tensor([2, 3, 5])
    # 3 is a positive of the first place: for it only 5 is left; the second place has 3 as its negative.
    loss = loss_of(users, items, query, positive, torch.tensor([5, 3]))

    scores = (users @ items.T).tolist()
    share = NUM_ITEMS / 2
    terms = [
        -math.log(
            math.exp(scores[q][p]) / (math.exp(scores[q][p]) + share * math.exp(scores[q][n]))
        )
        for q, p, n in ((0, 2, 5), (0, 3, 5), (1, 5, 3))
    ]
    assert loss.item() == pytest.approx(sum(terms) / 3, rel=1e-5)


def test_nothing_to_predict_is_a_loss_of_zero_with_gradients_of_zero() -> None:
    users, items = drawn(0, WIDTH), drawn(NUM_ITEMS + 1, WIDTH, seed=1)
    none = torch.zeros(0, dtype=torch.int64)
    loss = loss_of(users, items, none, none, torch.tensor([1, 2]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert items.grad is not None
    assert not items.grad.any()


def test_negatives_count_by_their_chances() -> None:
    """Over all samples, each as often as it is drawn, the sum over the negatives is that over the catalogue."""
    users, items = drawn(1, WIDTH), drawn(NUM_ITEMS + 1, WIDTH, seed=1)
    positive = torch.tensor([3])
    # Two ways to draw two of the other items, with chances 1/4 and 3/4; items 3 and 7 are in neither.
    samples = {(1, 2): 0.25, (4, 5): 0.75}
    chances = {item: chance for sample, chance in samples.items() for item in sample}
    sums = 0.0
    for sample, chance in samples.items():
        loss = sampled_softmax_loss(
            users, items[positive], items[list(sample)], query_of_P=torch.tensor([0]), item_nums_P=positive,
            negatives_S=torch.tensor(sample), chances_S=torch.tensor([chances[item] for item in sample]),
        )  # fmt: skip
        own = (users[0] @ items[3]).exp().item()
        sums += chance * (math.exp(loss.item()) * own - own)
    scores = (users @ items.T)[0].tolist()
    assert sums == pytest.approx(sum(math.exp(scores[item]) for item in (1, 2, 4, 5)), rel=1e-5)


def test_gradients_are_those_of_the_formula_written_out() -> None:
    query, positive = torch.tensor([0, 0, 1]), torch.tensor([2, 3, 5])
    negatives, chances = torch.tensor([5, 3, 1]), torch.tensor([0.2, 0.9, 0.5])
    found = []
    for written_out in (False, True):
        users, items = drawn(2, WIDTH), drawn(NUM_ITEMS + 1, WIDTH, seed=1)
        if written_out:
            terms = (users @ items[negatives].T).exp() / chances
            own = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
            rest = (terms * (1 - own)).sum(dim=1)[query]
            mine = (users[query] * items[positive]).sum(dim=1).exp()
            loss = ((mine + rest).log() - mine.log()).mean()
        else:
            loss = sampled_softmax_loss(
                users, items[positive], items[negatives], query_of_P=query, item_nums_P=positive,
                negatives_S=negatives, chances_S=chances,
            )  # fmt: skip
        loss.backward()  # type: ignore[no-untyped-call]
        found.append((loss.detach(), users.grad, items.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_a_place_whose_positives_are_all_the_negatives_loses_nothing() -> None:
    users, items = drawn(1, WIDTH), drawn(NUM_ITEMS + 1, WIDTH, seed=1)
    loss = loss_of(users, items, torch.tensor([0, 0]), torch.tensor([2, 3]), torch.tensor([3, 2]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert users.grad is not None
    assert not users.grad.any()
