"""What every Comm promises. Each check runs on every rank, in this order, over every implementation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from recsys.embeddings import Comm


def sums_and_means_are_over_all_ranks(comm: Comm, folder: Path) -> None:
    ranks = range(comm.size)
    assert comm.sum([comm.rank, 1.0], "s") == [float(sum(ranks)), float(comm.size)]
    assert comm.mean(comm.rank * 3.0, "m") == sum(ranks) * 3.0 / comm.size


def texts_come_by_rank_and_may_be_empty_or_foreign(comm: Comm, folder: Path) -> None:
    texts = comm.gather_texts("é" * comm.rank, "texts")
    assert texts == ["é" * rank for rank in range(comm.size)]


def parameters_become_those_of_rank_0(comm: Comm, folder: Path) -> None:
    model = nn.Linear(3, 2)
    nn.init.constant_(model.weight, comm.rank + 5.0)
    comm.broadcast_parameters(model)
    assert set(model.weight.flatten().tolist()) == {5.0}


def gradients_are_averaged_before_the_step(comm: Comm, folder: Path) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    optimizer = comm.wrap_optimizer(torch.optim.SGD(model.parameters(), lr=1.0), model)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.full((1, 1), comm.rank + 1.0)).sum().backward()
        comm.synchronize(optimizer)
        mean = (comm.size + 1) / 2
        assert model.weight.grad is not None
        assert model.weight.grad.item() == pytest.approx(mean)
        comm.step(optimizer)
    assert model.weight.item() == pytest.approx(1.0 - 2 * mean)


CHECKS = (
    sums_and_means_are_over_all_ranks,
    texts_come_by_rank_and_may_be_empty_or_foreign,
    parameters_become_those_of_rank_0,
    gradients_are_averaged_before_the_step,
)
