"""The contract of the sharded tables: one process, ranks as threads, and two and three ranks of Horovod."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recsys.embeddings import EmbeddingTable, LocalComm, RowwiseAdagrad, Sgd, plan_tables
from recsys.embeddings.routing import Parts, padded
from recsys.errors import ConfigError
from tests.embeddings.comm_contract import CHECKS as COMM_CHECKS
from tests.embeddings.rank_threads import run_ranks
from tests.embeddings.ranks import Check, assert_passed
from tests.embeddings.sharded_contract import CHECKS, fresh_rows


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranks_as_threads(check: Check, size: int, tmp_path: Path) -> None:
    run_ranks(size, lambda comm: check(comm, tmp_path))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_one_process(check: Check, tmp_path: Path) -> None:
    check(LocalComm(), tmp_path)


@pytest.mark.parametrize("kind", [pytest.param("horovod", marks=pytest.mark.horovod), "torch"])
@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_as_processes(kind: str, size: int, tmp_path: Path) -> None:
    """The contracts of Comm and of the tables, in one start: most of its time is the import of torch."""
    checks = (*COMM_CHECKS, *CHECKS)
    assert_passed(checks, "tests.embeddings.sharded_contract", kind, size, tmp_path)


def test_small_tables_are_replicated_and_the_plan_says_what_each_rank_holds() -> None:
    small = EmbeddingTable("weekday", 7, 64, Sgd(0.1))
    large = EmbeddingTable("item", 100_001, 64, RowwiseAdagrad(0.1))
    plan = plan_tables([small, large], 2)
    assert [p.kind for p in plan.placements] == ["replicated", "row_wise"]
    assert plan.bytes_on(0) == 7 * 64 * 4 + 50_001 * (64 + 1) * 4
    assert plan.bytes_on(1) == 7 * 64 * 4 + 50_000 * (64 + 1) * 4
    assert "item: 100,001 x 64, row_wise" in plan.describe()


def test_a_plan_that_does_not_fit_is_refused_with_the_numbers() -> None:
    table = EmbeddingTable("item", 10_000_000, 64, RowwiseAdagrad(0.1))
    with pytest.raises(ConfigError, match=r"need 1\.21 GiB on rank 0, 1\.00 GiB are allowed"):
        plan_tables([table], 2, bytes_per_rank=1 << 30)
    assert plan_tables([table], 3, bytes_per_rank=1 << 30).world_size == 3


def test_two_tables_of_one_name_and_a_table_of_nothing_are_refused() -> None:
    table = EmbeddingTable("item", 3, 2, Sgd(0.1))
    with pytest.raises(ConfigError, match=r"given twice: \['item'\]"):
        plan_tables([table, table], 1)
    with pytest.raises(ConfigError, match="'none' has 0 rows"):
        EmbeddingTable("none", 0, 2, Sgd(0.1))


def test_a_fresh_row_is_the_same_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.embeddings.tables.INITIAL_CHUNK_ROWS", 4)
    table = EmbeddingTable("item", 11, 2, Sgd(0.1))
    all_rows = fresh_rows(table, (1, 2), slice(0, None, 1), torch.float32)
    assert len(torch.unique(all_rows)) == 22
    for size in (2, 3, 5):
        for rank in range(size):
            mine = fresh_rows(table, (1, 2), slice(rank, None, size), torch.float32)
            assert torch.equal(mine, all_rows[rank::size])


def test_parts_grow_by_an_eighth() -> None:
    assert [padded(n) for n in (0, 64, 65, 72, 73)] == [64, 64, 72, 72, 81]
    for size in range(64, 5000, 7):
        assert size <= padded(size) <= size * 9 / 8 + 1


def test_a_message_has_its_pieces_in_order_and_zeros_behind_each_part_but_none_for_the_sender() -> (
    None
):
    parts = Parts([[2, 1], [0, 70], [5, 5]], 2, lambda size: torch.full((size,), 9.0))
    assert parts.splits == [64, 72, 0]
    for rank in (0, 1):
        for number, piece in enumerate(parts.pieces(rank)):
            piece.fill_(10 * rank + number)
    assert parts.message[:4].tolist() == [0, 0, 1, 0]
    assert parts.message[64:].tolist() == [11.0] * 70 + [0.0] * 2
