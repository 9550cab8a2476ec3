"""Embedding tables whose rows are spread over the ranks, looked up and updated where they lie.

A step is three messages of every rank to every other, whatever the number of tables: the distinct ids of the batch,
their rows, and after the backward pass the sums of their gradients. Tables of one width and one update rule are
one shard with offsets, so that each is one lookup and one update. The scheme is that of NVIDIA's
distributed-embeddings and of TorchRec's row-wise sharding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.embeddings.asked import Asked
from recsys.embeddings.best import best_of_all_ranks, best_rows
from recsys.embeddings.comm import Comm
from recsys.embeddings.device import CPU
from recsys.embeddings.figures import StepFigures
from recsys.embeddings.plan import Plan, plan_tables
from recsys.embeddings.routing import Ids, Parts
from recsys.embeddings.rows import Source
from recsys.embeddings.shard import Shard
from recsys.embeddings.snapshot import FrozenRows
from recsys.embeddings.tables import EmbeddingTable
from recsys.errors import ContractError, Refused

# Shape suffixes in this file:
#   U distinct rows of a batch   R rows of a shard   Q queries   D embedding width

ReadRows = Callable[[str, str, int, int], Tensor | NDArray[np.float32]]


class ShardedEmbeddings:
    """A collection of embedding tables over a process group. Every method is collective.

    Gradients are averaged over the ranks, as those of the dense parameters are.
    """

    def __init__(
        self, tables: Sequence[EmbeddingTable], comm: Comm, *, seed: int, plan: Plan | None = None,
        dtype: torch.dtype = torch.float32, device: torch.device = CPU,
    ) -> None:  # fmt: skip
        self.comm = comm
        self.plan = plan or plan_tables(tables, comm.size)
        self.tables = {table.name: table for table in tables}
        self.device, self.dtype = device, dtype
        self.step = 0
        self.figures = StepFigures()
        self._asked: list[Asked] = []
        self._token = torch.zeros(0, device=device, requires_grad=True)
        kinds = {placement.table.name: placement.kind for placement in self.plan.placements}
        alike: dict[Any, list[EmbeddingTable]] = {}
        for table in tables:
            alone = comm.size == 1 or kinds[table.name] == "row_wise"
            alike.setdefault((table.dim, table.rule, alone), []).append(table)
        self.shards: list[Shard] = []
        """Those whose rows are spread."""
        self.replicated: list[Shard] = []
        numbers = {table.name: number for number, table in enumerate(tables)}
        for (_, _, spread), group in alike.items():
            shard = Shard(group, comm.rank, comm.size) if spread else Shard(group, 0, 1)
            shard.fill(numbers, seed, dtype, device)
            (self.shards if spread else self.replicated).append(shard)

    def look_up(self, ids: Mapping[str, Ids], *, learn: bool = True) -> dict[str, Tensor]:
        """The vectors of ``ids``, by table: (*ids.shape, D), or (B, D) where the table pools.

        Tables that are not named are not asked. With ``learn`` the vectors take part in autograd, and ``update``
        must follow the backward pass.

        Raises:
            ContractError: on every rank, where one has an id outside its table or of a wrong type; table, id
                and rank are named.
        """
        with self.figures.timed("route"), torch.no_grad():
            asked, problem = self._ask(ids)
        spread, whole = asked[: len(self.shards)], asked[len(self.shards) :]
        of_me = self._tell(spread, problem)
        with torch.no_grad():
            came = self._fetch(spread, of_me)
            with self.figures.timed("look_up"):
                found: dict[str, Tensor] = {}
                for one, sources in zip(spread, came, strict=True):
                    found |= one.vectors(sources)
                for one in whole:
                    found |= one.vectors([Source(one.shard.weight_RD, one.wanted.rows_U)])
        if not learn:
            return {name: found[name] for name in ids}
        self._asked, self._of_me = asked, of_me
        takers = [(one, name) for one in asked for name in one.names]
        vectors = _Vectors.apply(self._token, takers, found)  # type: ignore[no-untyped-call]
        learning = dict(zip((name for _, name in takers), vectors, strict=True))
        return {name: learning[name] for name in ids}

    @torch.no_grad()
    def update(self) -> None:
        """Send the gradients of the last ``look_up`` to the rows' ranks and update each row once.

        Raises:
            Refused: on every rank, where one has a gradient that is not finite; table, id and rank are named.
                No row has changed.
        """
        assert self._asked, "look_up(learn=True) comes first"
        asked, of_me, self._asked = self._asked, self._of_me, []
        spread, whole = asked[: len(self.shards)], asked[len(self.shards) :]
        with self.figures.timed("update"):
            parts, mine, problem = self._summed(spread)
            dense = []
            for one in whole:
                total_RD, said = self._dense_gradient(one)
                dense.append(total_RD.flatten())
                problem = problem or said
        grads = self._exchange_gradients(parts, mine, of_me, problem)
        totals = torch.cat(dense) if dense else None
        if totals is not None:
            with self.figures.timed("exchange"):
                totals = self.comm.total(totals, "embedding tables")
            self.figures.sent_bytes += totals.numel() * totals.element_size()
        self.step += 1
        with self.figures.timed("update"):
            for shard, rows, of_ranks in zip(self.shards, of_me, grads, strict=True):
                shard.update(rows, of_ranks, 1 / self.comm.size, self.step)
            if totals is not None:
                self._update_replicated(totals.split_with_sizes([len(flat) for flat in dense]))

    def table(self, name: str) -> Tensor:
        """A whole table on every rank, (rows, D)."""
        table = self.tables[name]
        shard = self._shard_of(name)
        if shard.spread == 1:
            return shard.rows_of(table).clone()
        mine = shard.rows_of(table).flatten()
        came, splits = self.comm.exchange(
            mine.repeat(self.comm.size), [len(mine)] * self.comm.size, "embedding table"
        )
        whole = mine.new_empty(table.rows, table.dim)
        for rank, part in enumerate(came.split_with_sizes(splits)):
            whole[rank :: self.comm.size] = part.view(-1, table.dim)
        return whole

    def spread(self, name: str) -> int:
        """How many ranks share the table's rows; 1 where each has all of them."""
        return self._shard_of(name).spread

    def state(self) -> dict[str, dict[str, Tensor]]:
        """By table, "weight" and the state of its rule: this rank's rows, views and not copies."""
        return {name: self._shard_of(name).state_of(table) for name, table in self.tables.items()}

    def freeze(self) -> dict[str, dict[str, FrozenRows]]:
        """As ``state``, to be read by another thread while training goes on; until ``thaw`` or the next call."""
        frozen: dict[str, dict[str, FrozenRows]] = {}
        for shard in (*self.shards, *self.replicated):
            frozen |= shard.freeze()
        return {name: frozen[name] for name in self.tables}

    def thaw(self) -> None:
        """What ``freeze`` gave is not read any more."""
        for shard in (*self.shards, *self.replicated):
            shard.thaw()

    def load_state(self, read: ReadRows, step: int) -> None:
        """Take every table's rows and state from ``read`` (table, array, rank, spread), and the number of steps done.

        Raises:
            ContractError: what was read has another shape; table and array are named.
        """
        for name, arrays in self.state().items():
            shard = self._shard_of(name)
            for array, mine in arrays.items():
                found = torch.as_tensor(read(name, array, shard.rank, shard.spread))
                if found.shape != mine.shape:
                    raise ContractError(
                        f"embedding table {name!r}, {array}: rank {shard.rank} of {shard.spread} has "
                        f"{tuple(mine.shape)}, what was saved is {tuple(found.shape)}: it is of another table"
                    )
                mine.copy_(found)
            shard.clear_padding()
        self.step = step

    @torch.no_grad()
    def best(self, name: str, queries_QD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """For this rank's queries the ``k`` rows of the whole table with the greatest inner products.

        Ids (Q, k) int64 and scores (Q, k), best first, ties to the smaller id; the row 0 of a padded table is
        left out. Ranks may bring different numbers of queries, also none.

        Raises:
            ContractError: ``k`` is more than there are rows, or the width is not the table's.
        """
        table, shard = self.tables[name], self._shard_of(name)
        found = table.rows - table.padding
        if not 1 <= k <= found or queries_QD.shape[1] != table.dim:
            raise ContractError(
                f"table {name!r} has {found} rows of width {table.dim} to choose from; asked were the best {k} for "
                f"queries of width {queries_QD.shape[1]}"
            )
        rows_RD, skip = shard.rows_of(table), int(table.padding and shard.rank == 0)
        if shard.spread == 1:
            return best_rows(queries_QD, rows_RD, skip, k)
        return best_of_all_ranks(self.comm, queries_QD, rows_RD, skip, k)

    def take_figures(self) -> StepFigures:
        """What has been added up since they were last taken; starts again from zero."""
        taken, self.figures = self.figures, StepFigures()
        return taken

    def _shard_of(self, name: str) -> Shard:
        return next(s for s in (*self.shards, *self.replicated) if name in s.offsets)

    def _ask(self, ids: Mapping[str, Ids]) -> tuple[list[Asked], str]:
        """What is asked of each shard; nothing, and why, where that cannot be."""
        shards = (*self.shards, *self.replicated)
        try:
            if unknown := [name for name in ids if name not in self.tables]:
                raise ContractError(
                    f"no embedding table {unknown[0]!r}; there are: {', '.join(self.tables)}"
                )
            return [Asked(shard, ids, self.device) for shard in shards], ""
        except ContractError as error:
            return [Asked(shard, {}, self.device) for shard in shards], str(error)

    def _tell(self, asked: Sequence[Asked], problem: str) -> list[list[Tensor]]:
        """Tell every rank which of its rows are wanted; returns, by shard and rank, what is wanted of this one."""
        mine = [one.wanted.by_rank for one in asked]
        if self.comm.size == 1:
            if problem:
                self._raise(ContractError, problem, "ids")
            return [list(rows) for rows in mine]
        head = 1 + len(asked)
        counts = [[one.wanted.counts_N[rank] for one in asked] for rank in range(self.comm.size)]
        parts = self._parts([[head, *of_rank] for of_rank in counts], torch.int64)
        for rank in self._others:
            told, *pieces = parts.pieces(rank)
            told.copy_(torch.tensor([int(bool(problem)), *counts[rank]]))
            for piece, rows in zip(pieces, mine, strict=True):
                piece.copy_(rows[rank])
        received = self._exchange(parts, "embedding ids")
        heads = {rank: received[rank][:head].tolist() for rank in self._others}
        if problem or any(told[0] for told in heads.values()):
            self._raise(ContractError, problem, "ids")
        of_me = [list(rows) for rows in mine]
        for rank, (_, *sizes) in heads.items():
            asked_for = received[rank][head : head + sum(sizes)].split_with_sizes(sizes)
            for of_shard, of_rank in zip(of_me, asked_for, strict=True):
                of_shard[rank] = of_rank
        return of_me

    def _fetch(
        self, asked: Sequence[Asked], of_me: Sequence[Sequence[Tensor]]
    ) -> list[list[Source]]:
        """Give each rank the rows it asked for; returns where those lie that this one asked for, by shard and rank."""
        sources = [
            [Source(one.shard.weight_RD, one.wanted.by_rank[self.comm.rank])] * self.comm.size
            for one in asked
        ]
        if self.comm.size == 1:
            return sources
        with self.figures.timed("look_up"):
            sizes = [
                [len(rows[rank]) * one.shard.dim for one, rows in zip(asked, of_me, strict=True)]
                for rank in range(self.comm.size)
            ]
            parts = self._parts(sizes, self.dtype)
            for rank in self._others:
                for one, rows, piece in zip(asked, of_me, parts.pieces(rank), strict=True):
                    wanted = Source(one.shard.weight_RD, rows[rank])
                    one.shard.ops.copy(wanted, piece.view(-1, one.shard.dim))
        received = self._exchange(parts, "embedding rows")
        for rank in self._others:
            start = 0
            for one, of_shard in zip(asked, sources, strict=True):
                end = start + one.wanted.counts_N[rank] * one.shard.dim
                of_shard[rank] = Source(received[rank][start:end].view(-1, one.shard.dim))
                start = end
        return sources

    def _summed(self, asked: Sequence[Asked]) -> tuple[Parts | None, list[Tensor], str]:
        """The gradients summed by row: for the other ranks as a message, for this one by shard; and a problem."""
        mine = [
            one.shard.ops.empty(one.shard.weight_RD, count * one.shard.dim).view(count, -1)
            if (count := one.wanted.counts_N[self.comm.rank])
            else one.shard.weight_RD.new_empty(0, one.shard.dim)
            for one in asked
        ]
        parts = None
        outs = [[of_me] * self.comm.size for of_me in mine]
        if self.comm.size > 1:
            sizes = [
                [1, *(one.wanted.counts_N[rank] * one.shard.dim for one in asked)]
                for rank in range(self.comm.size)
            ]
            parts = self._parts(sizes, self.dtype)
            for rank in self._others:
                _, *pieces = parts.pieces(rank)
                for one, of_shard, piece in zip(asked, outs, pieces, strict=True):
                    of_shard[rank] = piece.view(-1, one.shard.dim)
        problems = [one.sum(of_shard) for one, of_shard in zip(asked, outs, strict=True)]
        return parts, mine, next(filter(None, problems), "")

    def _exchange_gradients(
        self, parts: Parts | None, mine: Sequence[Tensor], of_me: Sequence[Sequence[Tensor]], problem: str
    ) -> list[list[Tensor]]:  # fmt: skip
        """The sums that the ranks have for this rank's rows, by shard and rank."""
        grads = [[of_shard] * self.comm.size for of_shard in mine]
        failed = bool(problem)
        if parts is not None:
            for rank in self._others:
                parts.pieces(rank)[0].fill_(failed)
            received = self._exchange(parts, "embedding gradients")
            failed = failed or any(bool(received[rank][0]) for rank in self._others)
            for rank in self._others:
                start = 1
                for shard, rows, of_shard in zip(self.shards, of_me, grads, strict=True):
                    end = start + len(rows[rank]) * shard.dim
                    of_shard[rank] = received[rank][start:end].view(-1, shard.dim)
                    start = end
        if failed:
            self._raise(Refused, problem, "gradients")
        return grads

    def _dense_gradient(self, one: Asked) -> tuple[Tensor, str]:
        """The gradient of a replicated shard, (R, D + 1): the last column says how many ranks asked for the row."""
        shard = one.shard
        total_RD = shard.weight_RD.new_zeros(shard.num_rows, shard.dim + 1)
        rows_U = one.wanted.rows_U
        sums_UD = shard.weight_RD.new_empty(len(rows_U), shard.dim)
        problem = one.sum([sums_UD])
        total_RD[rows_U, :-1] = sums_UD
        total_RD[rows_U, -1] = 1
        return total_RD, problem

    def _update_replicated(self, totals: Sequence[Tensor]) -> None:
        for shard, flat_total in zip(self.replicated, totals, strict=True):
            total_RD = flat_total.view(shard.num_rows, shard.dim + 1)
            rows_U = total_RD[:, -1].nonzero().squeeze(1)
            grad_UD = total_RD[rows_U, :-1].contiguous()
            shard.update([rows_U], [grad_UD], 1 / self.comm.size, self.step)

    @property
    def _others(self) -> list[int]:
        return [rank for rank in range(self.comm.size) if rank != self.comm.rank]

    def _parts(self, sizes: Sequence[Sequence[int]], dtype: torch.dtype) -> Parts:
        like = torch.empty(0, dtype=dtype, device=self.device)
        ops = (*self.shards, *self.replicated)[0].ops
        return Parts(sizes, self.comm.rank, lambda size: ops.empty(like, size))

    def _exchange(self, parts: Parts, name: str) -> tuple[Tensor, ...]:
        """The parts that came, by rank."""
        with self.figures.timed("exchange"):
            came, splits = self.comm.exchange(parts.message, parts.splits, name)
        self.figures.sent_bytes += parts.message.numel() * parts.message.element_size()
        return came.split_with_sizes(splits)

    def _raise(self, kind: type[ContractError | Refused], problem: str, what: str) -> None:
        texts = self.comm.gather_texts(problem, f"embedding {what} refused")
        raise kind("; ".join(f"rank {rank}: {text}" for rank, text in enumerate(texts) if text))


class _Vectors(torch.autograd.Function):
    """Where autograd ends: the gradients of the vectors are kept until ``update`` comes for them."""

    @staticmethod
    def forward(
        ctx: Any, token: Tensor, takers: list[tuple[Asked, str]], vectors: dict[str, Tensor]
    ) -> tuple[Tensor, ...]:
        ctx.takers = takers
        ctx.set_materialize_grads(False)
        return tuple(vectors[name] for _, name in takers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[None, None, None]:
        for (asked, name), grad in zip(ctx.takers, grads, strict=True):
            if grad is not None:
                asked.learn(name, grad)
        return None, None, None
