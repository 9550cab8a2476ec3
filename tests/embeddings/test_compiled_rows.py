"""The compiled row operations do what those in torch do, and the same on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys.embeddings import LazyAdam, LocalComm, RowwiseAdagrad, Sgd, ShardedEmbeddings
from recsys.embeddings.compiled_rows import CompiledRows, row_ops
from recsys.embeddings.kernel import kernel
from recsys.embeddings.routing import Bags
from recsys.embeddings.rows import Request, RowOps, Source, TorchRows
from recsys.embeddings.tables import EmbeddingTable, RowRule

RULES = (Sgd(0.1), RowwiseAdagrad(0.1), LazyAdam(0.05))
CPU = torch.device("cpu")


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def compiled() -> CompiledRows:
    library = kernel()
    assert library is not None, "make setup builds it"
    return CompiledRows(library)


def by_id(ops: RowOps, ids: list[Tensor], ranks: int) -> dict[int, list[int]]:
    """The places of each distinct id, after checks that hold for every implementation."""
    found = ops.distinct(torch.cat(ids), [len(of_table) for of_table in ids], ranks)
    owners = np.repeat(np.arange(ranks), found.counts_N)
    distinct = (found.rows_U.numpy() * ranks + owners).tolist()
    assert len(set(distinct)) == len(distinct)
    flat = torch.cat(ids).tolist()
    assert [distinct[place] for place in found.place_P.tolist()] == flat
    places: dict[int, list[int]] = {}
    owner = 0
    for piece_P in found.order_P.split_with_sizes(found.starts_K.diff().tolist()):
        of_piece: dict[int, list[int]] = {}
        for place in piece_P.tolist():
            of_piece.setdefault(flat[place], []).append(place)
        assert not of_piece.keys() & places.keys(), "no row is in two pieces"
        for id_ in of_piece:
            assert id_ % ranks >= owner, "pieces lie by rank"
            owner = id_ % ranks
        places |= of_piece
    return places


@pytest.mark.parametrize("ranks", [1, 2, 3, 70])
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    rows=st.integers(1, 50),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_every_id_is_found_once_with_its_places_ascending(
    ranks: int, sizes: list[int], rows: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    # Tables' ids lie one after the other, as the offsets of a shard make them.
    ids = [
        torch.from_numpy(draw.integers(rows * number, rows * (number + 1), size))
        for number, size in enumerate(sizes)
    ]
    wanted: dict[int, list[int]] = {}
    for place, id_ in enumerate(torch.cat(ids).tolist()):
        wanted.setdefault(id_, []).append(place)
    assert by_id(TorchRows(), ids, ranks) == wanted
    assert by_id(compiled(), ids, ranks) == wanted


def test_many_ids_of_one_table_are_dealt_into_pieces(threads: int) -> None:
    """More ids than one piece takes, all large, and half of them one and the same."""
    draw = np.random.default_rng(3)
    ids = torch.from_numpy(draw.integers(0, 2**62, 40_000))
    ids[::2] = 2**62 + 5
    assert by_id(compiled(), [ids], 2) == by_id(TorchRows(), [ids], 2)


@pytest.mark.parametrize("dim", [1, 3, 16, 64, 65])
def test_vectors_and_sums_have_the_same_bits(dim: int, threads: int) -> None:
    """Plain ids, bags with an empty one, a table without ids; rows of one rank here and of another come."""
    draw = torch.Generator().manual_seed(dim)
    ids = [
        torch.randint(0, 40, (700,), generator=draw),
        torch.randint(40, 60, (9,), generator=draw),
        torch.zeros(0, dtype=torch.int64),
    ]
    requests = [
        Request(700, (350, 2, dim), None, False),
        Request(9, (4, dim), torch.tensor([0, 5, 5, 6]), True),
        Request(0, (0, dim), None, False),
    ]
    weight = torch.randn(60, dim, generator=draw)
    grads = [torch.randn(r.num_vectors, dim, generator=draw) for r in requests]
    found = {}
    for name, ops in (("torch", TorchRows()), ("compiled", compiled())):
        wanted = ops.distinct(torch.cat(ids), [len(of_table) for of_table in ids], 2)
        first, second = (2 * rows + rank for rank, rows in enumerate(wanted.by_rank))
        sources = [Source(weight, first), Source(weight[second].contiguous())]
        vectors = ops.vectors(sources, wanted, requests, dim)
        outs = [torch.full((count, dim), 9.0) for count in wanted.counts_N]
        assert ops.sum(grads, requests, wanted, outs) == -1
        sums = torch.full((60, dim), -1.0)
        sums[torch.cat([first, second])] = torch.cat(outs)
        found[name] = (*vectors, sums)
    for one, other in zip(*found.values(), strict=True):
        assert torch.equal(one, other)


def test_ids_are_joined_with_their_tables_offsets_unless_one_is_outside() -> None:
    """Of the second table the ids lie apart in memory, as a column's do."""
    column = torch.tensor([[3, 9], [0, 9]])[:, 0]
    for ops in (TorchRows(), compiled()):
        joined = ops.join([torch.tensor([0, 1]), column], [2, 4], [0, 10])
        assert joined is not None
        assert joined.tolist() == [0, 1, 13, 10]
        for bad in (-1, 4, -(2**62)):
            assert ops.join([column, torch.tensor([0, bad])], [4, 4], [0, 10]) is None


def test_the_first_row_that_is_not_finite_is_found_in_whichever_piece(threads: int) -> None:
    """Some 16 pieces for each of two ranks; the gradients of two ids are bad."""
    ids = torch.arange(9000).flip(0)
    ops = compiled()
    wanted = ops.distinct(ids, [len(ids)], 2)
    assert len(wanted.starts_K) > 17
    grads = torch.zeros(9000, 3)
    grads[[200, 7001], 1] = float("inf")
    outs = [torch.empty(count, 3) for count in wanted.counts_N]
    place = ops.sum([grads], [Request(9000, (9000, 3), None, False)], wanted, outs)
    assert place == min(wanted.place_P[[200, 7001]].tolist())


def test_a_sum_that_is_not_finite_is_told_apart_from_the_others(threads: int) -> None:
    for ops in (TorchRows(), compiled()):
        wanted = ops.distinct(torch.tensor([7, 3, 7, 9]), [4], 1)
        for bad in (float("nan"), float("inf"), -float("inf")):
            grads = torch.zeros(4, 5)
            grads[2, 4] = bad
            place = ops.sum([grads], [Request(4, (4, 5), None, False)], wanted, [torch.empty(3, 5)])
            assert wanted.rows_U[place] == 7


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("parts", [1, 3])
def test_updates_agree_to_a_millionth(rule: RowRule, parts: int, threads: int) -> None:
    """Three steps; where gradients come from several ranks a row may be among those of each."""
    draw = torch.Generator().manual_seed(parts)
    start = torch.randn(50, 19, generator=draw)
    steps = [
        [
            (
                torch.randperm(50, generator=draw)[: 11 + 7 * part],
                torch.randn(11 + 7 * part, 19, generator=draw),
            )
            for part in range(parts)
        ]
        for _ in range(3)
    ]
    found = []
    for ops in (TorchRows(), compiled()):
        weight = start.clone()
        slots = rule.slots(weight)
        for number, of_step in enumerate(steps):
            rows, grads = zip(*of_step, strict=True)
            ops.update(rule, weight, slots, rows, grads, scale=1 / 3, step=number + 1)
        found.append([weight, *slots.values()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert not torch.equal(found[0][0], start)


def trained(num_threads: int) -> Tensor:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        table = EmbeddingTable("item", 500, 16, RowwiseAdagrad(0.1), pooling="mean")
        made = ShardedEmbeddings([table], LocalComm(), seed=1)
        draw = torch.Generator().manual_seed(4)
        for _ in range(3):
            ids = torch.randint(0, 500, (30_000,), generator=draw)
            found = made.look_up({"item": Bags(ids, torch.arange(0, 30_000, 3))})["item"]
            found.square().sum().backward()  # type: ignore[no-untyped-call]
            made.update()
        return made.state()["item"]["weight"]
    finally:
        torch.set_num_threads(before)


def test_the_bits_do_not_depend_on_the_threads() -> None:
    assert isinstance(row_ops(torch.float32, CPU), CompiledRows)
    assert torch.equal(trained(1), trained(3))
    assert torch.equal(trained(3), trained(3))
