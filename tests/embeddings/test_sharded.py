"""The contract of the sharded tables: one process, ranks as threads, and two and three ranks of Horovod."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recsys.embeddings import Bags, EmbeddingTable, LocalComm, Sgd, ShardedEmbeddings
from recsys.errors import ContractError
from tests.embeddings.comm_contract import CHECKS as COMM_CHECKS
from tests.embeddings.rank_threads import run_ranks
from tests.embeddings.ranks import Check, assert_passed
from tests.embeddings.sharded_contract import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranks_that_are_threads_keep_it(check: Check, size: int, tmp_path: Path) -> None:
    run_ranks(size, lambda comm: check(comm, tmp_path))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_one_process_keeps_it(check: Check, tmp_path: Path) -> None:
    check(LocalComm(), tmp_path)


@pytest.mark.parametrize("kind", [pytest.param("horovod", marks=pytest.mark.horovod), "torch"])
@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_that_are_processes_keep_it(kind: str, size: int, tmp_path: Path) -> None:
    """The contracts of Comm and of the tables, in one start: most of its time is the import of torch."""
    checks = (*COMM_CHECKS, *CHECKS)
    assert_passed(checks, "tests.embeddings.sharded_contract", kind, size, tmp_path)


def test_a_table_that_is_asked_for_nothing_stands_beside_one_that_is() -> None:
    """The first of the vectors has no memory: the others' lies where it ends, not at its address."""
    tables = [EmbeddingTable(name, 9, 4, Sgd(1.0), initial_std=1.0) for name in ("a", "b")]
    made = ShardedEmbeddings(tables, LocalComm(), seed=1)
    nothing = torch.zeros(0, dtype=torch.int64)
    found = made.look_up({"a": nothing, "b": torch.tensor([3, 5])})
    assert found["a"].shape == (0, 4)
    assert torch.equal(found["b"], made.state()["b"]["weight"][[3, 5]])


def test_several_backward_passes_and_a_table_without_a_gradient_add_up() -> None:
    tables = [EmbeddingTable(name, 9, 4, Sgd(1.0), initial_std=0.0) for name in ("a", "b")]
    made = ShardedEmbeddings(tables, LocalComm(), seed=1)
    found = made.look_up({"b": torch.tensor([1, 1, 2]), "a": torch.tensor([3])})
    assert list(found) == ["b", "a"]
    for _ in range(2):
        found["b"].sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
    made.update()
    assert made.state()["b"]["weight"][:4, 0].tolist() == [0, -4, -2, 0]
    assert not made.state()["a"]["weight"].any()


def test_vectors_may_be_changed_in_place_and_outlive_their_step() -> None:
    made = ShardedEmbeddings([EmbeddingTable("a", 9, 4, Sgd(1.0))], LocalComm(), seed=1)
    rows = made.state()["a"]["weight"]
    row, other = rows[3].clone(), rows[5].clone()
    kept = made.look_up({"a": torch.tensor([3, 3])}, learn=False)["a"]
    made.look_up({"a": torch.tensor([5, 8])})["a"].mul_(2).sum().backward()  # type: ignore[no-untyped-call]
    made.update()
    assert torch.equal(kept, torch.stack([row, row]))
    assert rows[5, 0] != other[0]


def test_bags_that_do_not_fit_their_ids_are_refused() -> None:
    """Before memory is read by them."""
    table = EmbeddingTable("history", 9, 4, Sgd(1.0), pooling="sum")
    made = ShardedEmbeddings([table], LocalComm(), seed=1)
    for starts in ([1], [0, 2, 1], [0, 4], []):
        with pytest.raises(ContractError, match="'history': bags start at 0 and end at the 3 ids"):
            bags = Bags(torch.tensor([1, 2, 3]), torch.tensor(starts, dtype=torch.int64))
            made.look_up({"history": bags})
