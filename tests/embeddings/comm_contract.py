"""What every Comm promises. Each check runs on every rank, in this order, over every implementation."""

from __future__ import annotations

from hashlib import sha256
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


def a_parameter_without_a_gradient_gets_zeros_and_one_that_does_not_learn_none(
    comm: Comm, folder: Path
) -> None:
    """So that weight decay, say, moves it on one rank as on several."""
    model = nn.ParameterDict({name: nn.Parameter(torch.ones(2)) for name in ("used", "unused")})
    frozen = model["frozen"] = nn.Parameter(torch.ones(2), requires_grad=False)
    adam = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    optimizer = comm.wrap_optimizer(adam, model)
    for _ in range(2):
        optimizer.zero_grad()
        (model["used"].sum() * (comm.rank + 1)).backward()
        comm.synchronize(optimizer)
        assert model["unused"].grad is not None
        assert model["unused"].grad.tolist() == [0, 0]
        assert frozen.grad is None
        comm.step(optimizer)
    assert model["unused"].tolist() == pytest.approx([(1 - 0.1 * 0.5) ** 2] * 2)
    assert frozen.tolist() == [1, 1]


def parts_of_any_length_and_type_come_to_their_rank(comm: Comm, folder: Path) -> None:
    """Part r of rank s is s + 2 r long, filled with 10 s + r: rank 0 sends nothing to itself."""
    for dtype in (torch.int64, torch.float32, torch.float64, torch.bool):
        splits = [comm.rank + 2 * rank for rank in range(comm.size)]
        sent = [torch.full((n,), 10 * comm.rank + rank) for rank, n in enumerate(splits)]
        came, sizes = comm.exchange(torch.cat(sent).to(dtype), splits, f"exchange {dtype}")
        assert sizes == [rank + 2 * comm.rank for rank in range(comm.size)]
        wanted = [torch.full((n,), 10 * rank + comm.rank) for rank, n in enumerate(sizes)]
        assert came.dtype == dtype
        assert torch.equal(came, torch.cat(wanted).to(dtype))


def an_exchange_of_nothing_at_all_is_one(comm: Comm, folder: Path) -> None:
    came, sizes = comm.exchange(torch.zeros(0), [0] * comm.size, "nothing")
    assert (came.tolist(), sizes) == ([], [0] * comm.size)


def totals_keep_their_type_and_have_the_same_bits_on_every_rank(comm: Comm, folder: Path) -> None:
    """Values of which every order of addition makes another sum."""
    for dtype in (torch.float32, torch.float64, torch.int64):
        draw = torch.Generator().manual_seed(comm.rank)
        values = (torch.randn(501, generator=draw, dtype=torch.float64) * 1e3).to(dtype)
        before = values.clone()
        found = comm.total(values, f"total {dtype}")
        assert found.dtype == dtype
        assert torch.equal(values, before), "what was given is as it was"
        of_ranks = comm.gather_texts(sha256(found.numpy().tobytes()).hexdigest(), "bits")
        assert len(set(of_ranks)) == 1
        ones = comm.total(torch.ones(3, dtype=dtype), f"ones {dtype}")
        assert ones.tolist() == [comm.size] * 3
    sums = comm.sum([0.1 * (comm.rank + 1), 1e16, 1.0], "s")
    assert len(set(comm.gather_texts(repr(sums), "sums"))) == 1


def nobody_passes_a_barrier_before_all_have_come(comm: Comm, folder: Path) -> None:
    for turn in range(3):
        (folder / f"came-{turn}-{comm.rank}").touch()
        comm.barrier()
        assert len(list(folder.glob(f"came-{turn}-*"))) == comm.size


CHECKS = (
    sums_and_means_are_over_all_ranks,
    texts_come_by_rank_and_may_be_empty_or_foreign,
    parameters_become_those_of_rank_0,
    gradients_are_averaged_before_the_step,
    a_parameter_without_a_gradient_gets_zeros_and_one_that_does_not_learn_none,
    parts_of_any_length_and_type_come_to_their_rank,
    an_exchange_of_nothing_at_all_is_one,
    totals_keep_their_type_and_have_the_same_bits_on_every_rank,
    nobody_passes_a_barrier_before_all_have_come,
)
