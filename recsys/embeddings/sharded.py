"""Embedding tables whose rows are spread over the ranks, looked up and updated where they lie.

A step is three messages of every rank to every rank, whatever the number of tables: the distinct ids of the batch,
their rows, and after the backward pass the sums of their gradients. Tables of one width and one update rule are
one shard with offsets, so that each is one lookup and one update. The scheme is that of NVIDIA's
distributed-embeddings and of TorchRec's row-wise sharding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from recsys.embeddings.comm import Comm
from recsys.embeddings.plan import Plan, plan_tables
from recsys.embeddings.routing import Wanted, joined_parts, wanted_rows
from recsys.embeddings.shard import Shard
from recsys.embeddings.tables import EmbeddingTable
from recsys.errors import ContractError, Refused

# Shape suffixes in this file:
#   P ids of a batch, flat   B bags   U distinct rows of a batch   R rows of a shard   D embedding width


class Bags(NamedTuple):
    """Ids in bags of any length, also none."""

    ids_P: Tensor
    """int64."""
    starts_B: Tensor
    """int64, where each bag starts among the ids; the first is 0."""


Ids = Tensor | Bags


@dataclass
class Asked:
    """What a batch asked for, until its gradients come back."""

    wanted: list[Wanted]
    """By shard: what this rank asked for."""
    leaves: list[Tensor]
    """By shard: the rows it got, (U, D), whose gradients go back."""
    of_me: list[list[Tensor]]
    """By shard, by rank: the local rows (int64) that each rank asked this one for."""
    whole: dict[str, tuple[Tensor, Tensor]]
    """Replicated tables: the rows as a leaf, (R, D), and the ids asked for, (P,)."""


class ShardedEmbeddings:
    """A collection of embedding tables over a process group. Every method is collective.

    Gradients are averaged over the ranks, as those of the dense parameters are.
    """

    def __init__(
        self, tables: Sequence[EmbeddingTable], comm: Comm, *, seed: int, plan: Plan | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        self.comm = comm
        self.plan = plan or plan_tables(tables, comm.size)
        self.tables = {table.name: table for table in tables}
        self.step = 0
        self._asked: Asked | None = None
        numbers = {table.name: number for number, table in enumerate(tables)}
        kinds = {placement.table.name: placement.kind for placement in self.plan.placements}
        spread = [table for table in tables if kinds[table.name] == "row_wise"]
        alike: dict[object, list[EmbeddingTable]] = {}
        for table in spread:
            alike.setdefault((table.dim, table.rule), []).append(table)
        self.shards = [Shard(group, comm.rank, comm.size) for group in alike.values()]
        self.replicated = {
            table.name: Shard([table], 0, 1)
            for table in tables
            if kinds[table.name] == "replicated"
        }
        for shard in [*self.shards, *self.replicated.values()]:
            shard.fill(numbers, seed, dtype)

    def look_up(self, ids: Mapping[str, Ids], *, learn: bool = True) -> dict[str, Tensor]:
        """The vectors of ``ids``, by table: (*ids.shape, D), or (B, D) where the table pools.

        Tables that are not named are not asked. With ``learn`` the vectors take part in autograd, and ``update``
        must follow the backward pass.

        Raises:
            ContractError: on every rank, where one has an id outside its table or of a wrong type; table, id
                and rank are named.
        """
        problem = next(filter(None, (self._problem_of(*item) for item in ids.items())), "")
        asked = {} if problem else {name: _flat(given).long() for name, given in ids.items()}
        wanted = [_wanted(shard, asked, self.comm.size) for shard in self.shards]
        of_me = self._tell(wanted, problem)
        leaves = self._fetch(wanted, of_me)
        whole = {}
        for name, shard in self.replicated.items():
            if name in asked:
                whole[name] = (shard.weight_RD.detach().requires_grad_(learn), asked[name])
        for leaf in leaves:
            leaf.requires_grad_(learn)
        found = Asked(wanted, leaves, of_me, whole)
        if learn:
            self._asked = found
        return {name: self._vectors(name, given, found) for name, given in ids.items()}

    def update(self) -> None:
        """Send the gradients of the last ``look_up`` to the rows' ranks and update each row once.

        Raises:
            Refused: on every rank, where one has a gradient that is not finite; table, id and rank are named.
                No row has changed.
        """
        assert self._asked is not None, "look_up(learn=True) comes first"
        asked, self._asked = self._asked, None
        grads = [_grad(leaf) for leaf in asked.leaves]
        problem = self._gradient_problem(asked, grads)
        flag = torch.tensor([float(bool(problem))], dtype=self._dtype)
        parts = [
            [
                flag,
                *(
                    grad.split_with_sizes(wanted.counts_N)[rank].flatten()
                    for grad, wanted in zip(grads, asked.wanted, strict=True)
                ),
            ]
            for rank in range(self.comm.size)
        ]
        came, splits = self.comm.exchange(*joined_parts(parts), "embedding gradients")
        received = came.split_with_sizes(splits)
        if any(part[0] for part in received):
            self._raise(Refused, problem, "gradients")
        self.step += 1
        read = [1] * self.comm.size
        for shard, rows_by_rank in zip(self.shards, asked.of_me, strict=True):
            summed = []
            for rank, rows in enumerate(rows_by_rank):
                size = len(rows) * shard.dim
                summed.append(received[rank][read[rank] : read[rank] + size].view(-1, shard.dim))
                read[rank] += size
            shard.update(torch.cat(rows_by_rank), torch.cat(summed) / self.comm.size, self.step)
        self._update_replicated(asked)

    def table(self, name: str) -> Tensor:
        """A whole table on every rank, (rows, D)."""
        table = self.tables[name]
        if name in self.replicated:
            return self.replicated[name].rows_of(table).clone()
        [shard] = [shard for shard in self.shards if name in shard.offsets]
        mine = shard.rows_of(table).flatten()
        came, splits = self.comm.exchange(
            mine.repeat(self.comm.size), [len(mine)] * self.comm.size, "embedding table"
        )
        whole = mine.new_empty(table.rows, table.dim)
        for rank, part in enumerate(came.split_with_sizes(splits)):
            whole[rank :: self.comm.size] = part.view(-1, table.dim)
        return whole

    @property
    def _dtype(self) -> torch.dtype:
        return [*self.shards, *self.replicated.values()][0].weight_RD.dtype

    def _problem_of(self, name: str, given: Ids) -> str:
        if name not in self.tables:
            return f"no embedding table {name!r}; there are: {', '.join(self.tables)}"
        table, ids = self.tables[name], _flat(given)
        if isinstance(given, Bags) == (table.pooling == "none"):
            wanted = "bags" if table.pooling != "none" else "a tensor of ids"
            return f"table {name!r} has pooling {table.pooling!r} and takes {wanted}"
        if ids.dtype not in {torch.int64, torch.int32}:
            return f"table {name!r} takes whole numbers as ids, got {ids.dtype}: {ids[:3].tolist()}"
        outside = (ids < 0) | (ids >= table.rows)
        if outside.any():
            place = int(outside.to(torch.uint8).argmax())
            return (
                f"table {name!r} has ids 0 to {table.rows - 1}, got {int(ids[place])} (place {place} of "
                f"{len(ids)}): the ids and the table are of different vocabularies"
            )
        return ""

    def _tell(self, wanted: Sequence[Wanted], problem: str) -> list[list[Tensor]]:
        """Tell every rank which of its rows are wanted; returns, by shard and rank, what is wanted of this one."""
        rows = [w.local_rows_U.split_with_sizes(w.counts_N) for w in wanted]
        parts = [
            [torch.tensor([int(bool(problem)), *(w.counts_N[rank] for w in wanted)]),
             *(of_shard[rank] for of_shard in rows)]
            for rank in range(self.comm.size)
        ]  # fmt: skip
        came, splits = self.comm.exchange(*joined_parts(parts), "embedding ids")
        received = came.split_with_sizes(splits)
        if any(part[0] for part in received):
            self._raise(ContractError, problem, "ids")
        head = 1 + len(wanted)
        by_rank = [
            part[head : head + int(part[1:head].sum())].split_with_sizes(part[1:head].tolist())
            for part in received
        ]
        return [[of_rank[number] for of_rank in by_rank] for number in range(len(wanted))]

    def _fetch(self, wanted: Sequence[Wanted], of_me: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Give each rank the rows it asked for; returns this rank's, by shard, (U, D)."""
        empty = torch.zeros(0, dtype=self._dtype)
        parts = [
            [empty, *(shard.weight_RD[rows[rank]].flatten()
                      for shard, rows in zip(self.shards, of_me, strict=True))]
            for rank in range(self.comm.size)
        ]  # fmt: skip
        came, splits = self.comm.exchange(*joined_parts(parts), "embedding rows")
        pieces: list[list[Tensor]] = [[] for _ in wanted]
        for rank, part in enumerate(came.split_with_sizes(splits)):
            read = 0
            for shard, w, mine in zip(self.shards, wanted, pieces, strict=True):
                size = w.counts_N[rank] * shard.dim
                mine.append(part[read : read + size].view(-1, shard.dim))
                read += size
        return [torch.cat(mine) for mine in pieces]

    def _vectors(self, name: str, given: Ids, asked: Asked) -> Tensor:
        if name in asked.whole:
            rows, place_P = asked.whole[name]
        else:
            number = next(n for n, shard in enumerate(self.shards) if name in shard.offsets)
            rows, place_P = asked.leaves[number], asked.wanted[number].place_P[name]
        if isinstance(given, Bags):
            mode = self.tables[name].pooling
            return functional.embedding_bag(place_P, rows, given.starts_B, mode=mode)
        return functional.embedding(place_P, rows).view(*given.shape, rows.shape[1])

    def _update_replicated(self, asked: Asked) -> None:
        """One sum over the ranks of every small table's gradient, with how often each row was asked for."""
        if not self.replicated:
            return
        dense = []
        for name, shard in self.replicated.items():
            counts = torch.zeros(shard.num_rows, 1, dtype=self._dtype)
            grad = torch.zeros_like(shard.weight_RD)
            if name in asked.whole:
                rows, ids_P = asked.whole[name]
                grad = _grad(rows)
                counts[:, 0] = torch.bincount(ids_P, minlength=shard.num_rows)
            dense.append(torch.cat([grad, counts], dim=1).flatten())
        total = self.comm.total(torch.cat(dense), "embedding tables")
        for shard, part in zip(
            self.replicated.values(), total.split_with_sizes([len(d) for d in dense]), strict=True
        ):
            summed = part.view(shard.num_rows, shard.dim + 1)
            rows_U = summed[:, -1].nonzero().squeeze(1)
            shard.update(rows_U, summed[rows_U, :-1] / self.comm.size, self.step)

    def _gradient_problem(self, asked: Asked, grads: Sequence[Tensor]) -> str:
        for shard, wanted, grad_UD in zip(self.shards, asked.wanted, grads, strict=True):
            bad_U = ~grad_UD.isfinite().all(dim=1)
            if bad_U.any():
                place = int(bad_U.to(torch.uint8).argmax())
                rank = int(torch.repeat_interleave(torch.tensor(wanted.counts_N))[place])
                return f"gradient of {shard.name_row(int(wanted.local_rows_U[place]), rank)} is not finite"
        for name, (rows, _) in asked.whole.items():
            bad_R = ~_grad(rows).isfinite().all(dim=1)
            if bad_R.any():
                return f"gradient of table {name!r}, id {int(bad_R.to(torch.uint8).argmax())} is not finite"
        return ""

    def _raise(self, kind: type[ContractError | Refused], problem: str, what: str) -> None:
        texts = self.comm.gather_texts(problem, f"embedding {what} refused")
        raise kind("; ".join(f"rank {rank}: {text}" for rank, text in enumerate(texts) if text))


def _flat(given: Ids) -> Tensor:
    return given.ids_P if isinstance(given, Bags) else given.flatten()


def _grad(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _wanted(shard: Shard, asked: Mapping[str, Tensor], world_size: int) -> Wanted:
    ids = {
        table.name: asked[table.name] + shard.offsets[table.name]
        for table in shard.tables
        if table.name in asked
    }
    return wanted_rows(ids, world_size)
