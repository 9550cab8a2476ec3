"""What every Comm promises. Each check runs on every rank, in this order, over every implementation.

``python -m tests.embeddings.comm_contract FOLDER`` is one rank under Horovod; it leaves what it passed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from recsys.embeddings import Comm, HorovodComm
from recsys.errors import ContractError
from recsys.training.loop import Trainer
from recsys.training.spec import Fit
from tests.training.worlds import (
    AS_OF,
    LENGTH,
    NUM_ITEMS,
    cyclic_histories,
    tiny_training,
    write_file,
)


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


def a_problem_of_one_rank_is_an_error_on_all(comm: Comm, folder: Path) -> None:
    """The loader's: too few examples, and an item number that one rank alone reads."""
    few = write_file(folder / f"few-{comm.rank}.parquet", cyclic_histories(1))
    numbers = cyclic_histories(32)
    numbers[20, 3] = NUM_ITEMS + 7  # in the second row group: the last rank's
    foreign = write_file(folder / f"foreign-{comm.rank}.parquet", numbers)
    cases = [(foreign, rf"rank {comm.size - 1}: item number {NUM_ITEMS + 7}")]
    if comm.size > 1:
        cases.append((few, rf"^rank 1: no rows .* of {comm.size}"))
    for file, message in cases:
        fit = Fit(
            name="choosing",
            as_of=AS_OF,
            training=tiny_training(),
            files=(file,),
            examples_hash="",
            num_items=NUM_ITEMS,
            history_length=LENGTH - 1,
        )
        with pytest.raises(ContractError, match=message):
            Trainer(fit, comm, folder=folder, epochs=1, report=lambda **facts: None)


CHECKS = (
    sums_and_means_are_over_all_ranks,
    texts_come_by_rank_and_may_be_empty_or_foreign,
    parameters_become_those_of_rank_0,
    gradients_are_averaged_before_the_step,
    a_problem_of_one_rank_is_an_error_on_all,
)


def main(folder: Path) -> None:
    comm = HorovodComm()
    passed = []
    for check in CHECKS:
        check(comm, folder)
        comm.barrier()
        passed.append(check.__name__)
    (folder / f"passed-{comm.rank}.json").write_text(json.dumps([comm.size, passed]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
