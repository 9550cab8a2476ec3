"""Embedding tables whose rows are spread over the ranks, looked up and updated where they lie.

A step is three messages of every rank to every other, whatever the number of tables: the distinct ids of the batch,
their rows, and after the backward pass the sums of their gradients. Tables of one width and one update rule are
one shard with offsets, so that each is one lookup and one update. The scheme is that of NVIDIA's
distributed-embeddings and of TorchRec's row-wise sharding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.embeddings.asked import Asked
from recsys.embeddings.comm import Comm
from recsys.embeddings.device import CPU
from recsys.embeddings.figures import StepFigures
from recsys.embeddings.messages import Messages
from recsys.embeddings.plan import Plan, plan_tables
from recsys.embeddings.retrieval import best_of_all_ranks, best_rows
from recsys.embeddings.routing import Ids
from recsys.embeddings.rows import Source
from recsys.embeddings.shard import Shard
from recsys.embeddings.snapshot import FrozenRows
from recsys.embeddings.tables import EmbeddingTable
from recsys.errors import ContractError

# Shape suffixes in this file:
#   U distinct rows of a batch   R rows of a shard   Q queries   D embedding width


class ReadRows(Protocol):
    def __call__(
        self, table: str, array: str, rank: int, spread: int, /, *, into: NDArray[Any] | None
    ) -> Tensor | NDArray[Any]:
        """Of a table's array the rows rank, rank + spread, ...; ``into`` what is given, if that is of their shape
        and type."""


NO_GRADIENT = "no gradient has come for what look_up gave: the backward pass comes before update"


class ShardedEmbeddings:
    """A collection of embedding tables over a process group. Every method is collective.

    Gradients are averaged over the ranks, as those of the dense parameters are.
    """

    def __init__(
        self, tables: Sequence[EmbeddingTable], comm: Comm, *, seed: int, plan: Plan | None = None,
        dtype: torch.dtype = torch.float32, device: torch.device = CPU,
    ) -> None:  # fmt: skip
        """Fresh tables, the same for a ``seed`` on any number of ranks; without a ``plan`` small ones are replicated.

        Raises:
            ContractError: on every rank, where one has other tables, another plan, seed or type than rank 0, or the
                plan is for another number of ranks.
        """
        self.comm = comm
        self.plan = plan or plan_tables(tables, comm.size)
        self.tables = {table.name: table for table in tables}
        self.device, self.dtype = device, dtype
        self._same_on_every_rank(seed)
        self.step = 0
        self.figures = StepFigures()
        self._open: tuple[list[Asked], list[list[Tensor]]] | None = None
        """What was looked up to learn, until its update; and what others want of this rank."""
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
        like = torch.empty(0, dtype=dtype, device=device)
        self._messages = Messages(comm, self.shards, like, self.figures)
        self._without_learning = Messages(comm, self.shards, like, self.figures)

    def look_up(self, ids: Mapping[str, Ids], *, learn: bool = True) -> dict[str, Tensor]:
        """The vectors of ``ids``, by table: (*ids.shape, D), or (B, D) where the table pools.

        Tables that are not named are not asked. With ``learn`` the vectors take part in autograd, and ``update``
        must follow the backward pass.

        Raises:
            ContractError: on every rank, where one has an id outside its table or of a wrong type; table, id
                and rank are named. Or what was looked up before, to learn, has not been updated.
        """
        if learn and self._open is not None:
            raise ContractError(
                "look_up(learn=True) twice without an update: the gradients of the first would be lost; call update "
                "in between, or look up with learn=False"
            )
        with self.figures.timed("route"), torch.no_grad():
            asked, problem = self._ask(ids)
        spread, whole = asked[: len(self.shards)], asked[len(self.shards) :]
        messages = self._messages if learn else self._without_learning
        of_me = messages.tell(spread, problem)
        with torch.no_grad():
            came = messages.fetch(spread, of_me)
            with self.figures.timed("look_up"):
                found: dict[str, Tensor] = {}
                for one, sources in zip(spread, came, strict=True):
                    found |= one.vectors(sources)
                for one in whole:
                    found |= one.vectors([Source(one.shard.weight_RD, one.wanted.rows_U)])
        if not learn:
            return {name: found[name] for name in ids}
        self._open = asked, of_me
        takers = [(one, name) for one in asked for name in one.names]
        vectors = _Vectors.apply(self._token, takers, found)  # type: ignore[no-untyped-call]
        learning = dict(zip((name for _, name in takers), vectors, strict=True))
        return {name: learning[name] for name in ids}

    @torch.no_grad()
    def update(self) -> None:
        """Send the gradients of the last ``look_up`` to the rows' ranks and update each row once.

        Raises:
            ContractError: nothing was looked up to learn since the last update.
            Refused: on every rank, where one has a gradient that is not finite (table, id and rank are named), or
                none at all for the ids it has. No row has changed.
        """
        if self._open is None:
            raise ContractError("update without a look_up(learn=True) since the last one")
        (asked, of_me), self._open = self._open, None
        spread, whole = asked[: len(self.shards)], asked[len(self.shards) :]
        with self.figures.timed("update"):
            problem = "" if _has_learned(asked) else NO_GRADIENT
            sums, said = self._messages.sum(spread)
            problem = problem or said
            dense = []
            for one in whole:
                total_RD, said = self._dense_gradient(one)
                dense.append(total_RD.flatten())
                problem = problem or said
        grads = self._messages.exchange_gradients(sums, of_me, problem)
        totals = torch.cat(dense) if dense else None
        if totals is not None:
            with self.figures.timed("exchange"):
                totals = self.comm.total(totals, "embedding tables")
            self.figures.sent_bytes += self._sent_in_a_sum(totals)
        self.step += 1
        with self.figures.timed("update"):
            for shard, rows, of_ranks in zip(self.shards, of_me, grads, strict=True):
                shard.update(rows, of_ranks, 1 / self.comm.size, self.step)
            if totals is not None:
                self._update_replicated(totals.split_with_sizes([len(flat) for flat in dense]))

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
        """Take every table's rows and state from ``read``, and the number of steps done.

        On a CPU they are read where they belong: a shard is held once. Where ``read`` fails, what is held is neither
        the old state nor the new one.

        Raises:
            ContractError: what was read has another shape; table and array are named.
        """
        for name, arrays in self.state().items():
            shard = self._shard_of(name)
            for array, mine in arrays.items():
                into = mine.numpy() if mine.device.type == "cpu" else None
                found = read(name, array, shard.rank, shard.spread, into=into)
                if found is into and into is not None:
                    continue
                found = torch.as_tensor(found)
                if found.shape != mine.shape:
                    raise ContractError(
                        f"embedding table {name!r}, {array}: rank {shard.rank} of {shard.spread} has "
                        f"{tuple(mine.shape)}, what was saved is {tuple(found.shape)}: it is of another table"
                    )
                mine.copy_(found)
            shard.clear_padding()
        self.step = step

    @torch.no_grad()
    def best(self, name: str, queries_QD: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """For this rank's queries the ``n`` rows of the whole table with the greatest inner products.

        Ids (Q, n) int64 and scores (Q, n), best first, ties to the smaller id; the row 0 of a padded table is
        left out. Ranks may bring different numbers of queries, also none.

        Raises:
            ContractError: ``n`` is more than there are rows, or the width is not the table's.
        """
        table, shard = self.tables[name], self._shard_of(name)
        found = table.num_rows - table.padding
        if not 1 <= n <= found or queries_QD.shape[1] != table.dim:
            raise ContractError(
                f"table {name!r} has {found} rows of width {table.dim} to choose from; asked were the best {n} for "
                f"queries of width {queries_QD.shape[1]}"
            )
        rows_RD, skip = shard.rows_of(table), int(table.padding and shard.rank == 0)
        if shard.spread == 1:
            return best_rows(queries_QD, rows_RD, skip, n)
        return best_of_all_ranks(self.comm, queries_QD, rows_RD, skip, n)

    def take_figures(self) -> StepFigures:
        """What has been added up since they were last taken; starts again from zero."""
        return self.figures.take()

    def _same_on_every_rank(self, seed: int) -> None:
        """Pointers are made of the rows that others ask for: all must mean the same tables.

        A file of attributes that is older on one rank is enough for another number of rows.
        """
        facts = [f"{self.plan.world_size} ranks in the plan, seed {seed}, {self.dtype}"]
        facts += [f"{placed.table}, {placed.kind}" for placed in self.plan.placements]
        facts += [f"the tables {', '.join(self.tables)}"]
        first, *others = self.comm.gather_texts("\n".join(facts), "embedding tables")
        wanted = first.split("\n")
        for rank, text in enumerate(others, 1):
            for mine, of_first in zip_longest(text.split("\n"), wanted, fillvalue="nothing"):
                if mine != of_first:
                    raise ContractError(
                        f"the ranks hold different embedding tables: rank {rank} has {mine}; rank 0 has {of_first}. "
                        "They must read the same attributes and configuration"
                    )
        if self.plan.world_size != self.comm.size:
            raise ContractError(
                f"the plan of the embedding tables is for {self.plan.world_size} ranks, there are {self.comm.size}: "
                "plan with the size of this process group"
            )
        if [placed.table for placed in self.plan.placements] != list(self.tables.values()):
            raise ContractError(
                f"the plan places other embedding tables than {', '.join(self.tables)}: plan with these"
            )

    def _sent_in_a_sum(self, values: Tensor) -> int:
        """Bytes that a rank sends where the sum goes round in a ring: every value twice, but for its own share."""
        return 2 * (self.comm.size - 1) * values.numel() * values.element_size() // self.comm.size

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


def _has_learned(asked: Sequence[Asked]) -> bool:
    """Rules that keep moments move rows without a gradient, too; a rank without ids has none to bring."""
    return any(one.has_gradients for one in asked) or not any(one.names_ids for one in asked)


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
