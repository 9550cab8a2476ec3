"""The ranking tower against sums written out, and what it promises to training."""

from __future__ import annotations

import math
from itertools import combinations
from typing import get_args

import pytest
import torch

from recsys.config.ranking import Interaction
from recsys.models.ranking import (
    NUMBER_SCALE,
    CrossLayers,
    FactorizationMachine,
    PairwiseDots,
    RankingTower,
    ranking_loss,
)
from recsys.models.ranking_fields import CANDIDATE_FIELDS, FIELDS, USER_FIELDS

B, M, D, F = 3, 4, 6, len(FIELDS)
every_interaction = pytest.mark.parametrize("interaction", get_args(Interaction))


def tower_of(interaction: Interaction, field_dropout: float = 0.0) -> RankingTower:
    torch.manual_seed(5)
    return RankingTower(
        interaction=interaction, embedding_dim=D, num_negatives=4, hidden=(8, 4), num_cross_layers=2,
        cross_rank=32, dropout=0.0, field_dropout=field_dropout,
    )  # fmt: skip


def inputs(users: int = B) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(7)
    return (
        torch.randn(users, len(USER_FIELDS), D),
        torch.randn(users, M, len(CANDIDATE_FIELDS), D),
        torch.rand(users, M, 1),
    )


def test_a_factorisation_machine_is_the_sum_of_all_pairs_dots() -> None:
    fields = torch.randn(B, M, F, D)
    pairs = sum((fields[:, :, i] * fields[:, :, j]).sum(-1) for i, j in combinations(range(F), 2))
    found = FactorizationMachine()(fields, torch.zeros(B, M, 1)).squeeze(2)
    torch.testing.assert_close(found, pairs, rtol=1e-4, atol=1e-4)


def test_pairwise_dots_are_every_pair_once_with_the_number_as_a_field() -> None:
    layer = PairwiseDots(F, D, hidden=(8,), dropout=0.0)
    reached: list[torch.Tensor] = []
    layer.top.register_forward_pre_hook(lambda _, given: reached.append(given[0]))
    fields, numbers = torch.randn(B, M, F, D), torch.rand(B, M, 1)

    layer(fields, numbers)

    bottom = layer.bottom[0]
    assert isinstance(bottom, torch.nn.Linear)
    number = torch.relu(numbers * bottom.weight[:, 0] + bottom.bias)
    every = [*fields.unbind(dim=2), number]
    dots = [(every[i] * every[j]).sum(-1) for i in range(F + 1) for j in range(i)]
    torch.testing.assert_close(reached[0], torch.cat([number, torch.stack(dots, -1)], dim=-1))


@pytest.mark.parametrize("rank", [0, 2])
def test_a_cross_layer_multiplies_with_what_came_in(rank: int) -> None:
    width = F * D + 1
    layer = CrossLayers(width, num_layers=2, rank=rank, hidden=(), dropout=0.0)
    fields, numbers = torch.randn(1, 1, F, D), torch.rand(1, 1, 1)
    x0 = torch.cat([fields.flatten(), numbers.flatten()])
    weights = dict(layer.crosses.named_parameters())
    x = x0
    for n in range(2):
        if rank == 0:
            product = weights[f"{n}.weight"] @ x + weights[f"{n}.bias"]
        else:
            down, up = weights[f"{n}.0.weight"], weights[f"{n}.1.weight"]
            product = up @ (down @ x) + weights[f"{n}.1.bias"]
        x = x0 * product + x
    torch.testing.assert_close(
        layer(fields, numbers).flatten(), layer.deep(x).flatten(), rtol=1e-4, atol=1e-4
    )
    assert sum(p.numel() for p in layer.crosses[0].parameters()) == (
        width * width + width if rank == 0 else 2 * width * rank + width
    )


@every_interaction
def test_a_candidate_s_logit_does_not_depend_on_the_others(interaction: Interaction) -> None:
    tower = tower_of(interaction).eval()
    users, candidates, numbers = inputs()
    whole = tower(users, candidates, numbers)
    assert whole.shape == (B, M)
    one = tower(users[1:2], candidates[1:2, 2:3], numbers[1:2, 2:3])
    torch.testing.assert_close(one[0, 0], whole[1, 2])


@every_interaction
def test_what_is_unknown_starts_at_the_share_of_positives(interaction: Interaction) -> None:
    tower = tower_of(interaction).eval()
    nothing = tuple(torch.zeros_like(x) for x in inputs())
    share = torch.sigmoid(tower(*nothing))
    torch.testing.assert_close(share, torch.full((B, M), 0.2), atol=0.03, rtol=0)


@every_interaction
def test_an_empty_batch_has_loss_0_and_every_gradient(interaction: Interaction) -> None:
    tower = tower_of(interaction)
    loss = ranking_loss(tower(*inputs(0)), torch.zeros(0, M))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


def test_popularity_alone_can_move_the_linear_one() -> None:
    tower = tower_of("linear").eval()
    nothing = [torch.zeros_like(x) for x in inputs()[:2]]
    low, high = (
        float(tower(*nothing, torch.full((B, M, 1), v))[0, 0].detach()) for v in (0.0, 5.0)
    )
    weight = float(tower.first_order.weight[0, -1].detach())
    assert high - low == pytest.approx(5 * NUMBER_SCALE * weight, rel=1e-4)


def test_the_loss_is_the_weighted_mean_of_log_losses() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0], [1.0, 0.0, 3.0]])
    weights = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])

    def taken(logit: float) -> float:
        return math.log1p(math.exp(-logit))

    wanted = [taken(0), taken(-2), taken(1), taken(0), taken(-3)]
    assert float(ranking_loss(logits, weights)) == pytest.approx(sum(wanted) / 5)


def test_fields_go_missing_in_training_alone() -> None:
    tower = tower_of("fm", field_dropout=0.5)
    arguments = inputs()
    tower.eval()
    torch.testing.assert_close(tower(*arguments), tower(*arguments), rtol=0, atol=0)
    tower.train()
    assert not torch.equal(tower(*arguments), tower(*arguments))
    kept = tower._some(torch.ones(1000, 5, D))
    assert set(kept.flatten().tolist()) == {0.0, 2.0}  # the mean stays
    assert torch.equal(kept.amax(dim=-1), kept.amin(dim=-1))  # a field goes whole
