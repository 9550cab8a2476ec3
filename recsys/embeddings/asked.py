"""What one batch asks of the tables that are alike, from its ids to the sums of its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recsys.embeddings.routing import Bags, Ids, Wanted
from recsys.embeddings.rows import Request, Source
from recsys.embeddings.shard import Shard
from recsys.embeddings.tables import EmbeddingTable
from recsys.errors import ContractError

# Shape suffixes in this file:
#   P ids of a batch, flat   B bags   U distinct rows   D embedding width


def problem_of(table: EmbeddingTable, given: Ids) -> str:
    """Why ``given`` cannot be looked up in ``table``, its ids' range aside; empty where it can."""
    if isinstance(given, Bags) == (table.pooling == "none"):
        wanted = "bags" if table.pooling != "none" else "a tensor of ids"
        return f"table {table.name!r} has pooling {table.pooling!r} and takes {wanted}"
    ids = flat(given)
    if ids.dtype not in {torch.int64, torch.int32}:
        return (
            f"table {table.name!r} takes whole numbers as ids, got {ids.dtype}: {ids[:3].tolist()}"
        )
    if isinstance(given, Bags) and (problem := _problem_of_starts(given)):
        return f"table {table.name!r}: {problem}"
    return ""


def range_problem(table: EmbeddingTable, given: Ids) -> str:
    """The first id that is outside ``table``; empty where none is."""
    ids = flat(given)
    outside = (ids < 0) | (ids >= table.num_rows)
    if not outside.any():
        return ""
    place = int(outside.to(torch.uint8).argmax())
    return (
        f"table {table.name!r} has ids 0 to {table.num_rows - 1}, got {int(ids[place])} (place {place} of "
        f"{len(ids)}): the ids and the table are of different vocabularies"
    )


def _problem_of_starts(bags: Bags) -> str:
    starts_B, num_ids = bags.starts_B, len(bags.ids_P)
    if starts_B.dtype != torch.int64:
        return f"bags start at int64 places, got {starts_B.dtype}"
    wrong = num_ids if len(starts_B) == 0 else starts_B[0] != 0
    if bool(wrong) or (bags.sizes_B < 0).any():
        return (
            f"bags start at 0 and end at the {num_ids} ids, got starts {starts_B[:8].tolist()} of "
            f"{len(starts_B)} bags"
        )
    return ""


def flat(given: Ids) -> Tensor:
    return given.ids_P if isinstance(given, Bags) else given.flatten()


class Asked:
    """A shard's part of a batch.

    Raises:
        ContractError: ids are of a wrong type or outside their table; the first such is named.
    """

    def __init__(self, shard: Shard, ids: Mapping[str, Ids], device: torch.device) -> None:
        self.shard = shard
        tables = [table for table in shard.tables if table.name in ids]
        self.names = [table.name for table in tables]
        self._grads: dict[str, Tensor] = {}
        self.requests: list[Request] = []
        numbers = []
        for table in tables:
            given = ids[table.name]
            if problem := problem_of(table, given):
                raise ContractError(problem)
            if isinstance(given, Bags):
                given = given.without(0) if table.padding else given
                shape = (len(given.starts_B), shard.dim)
                starts, mean = given.starts_B.to(device), table.pooling == "mean"
                self.requests.append(Request(len(given.ids_P), shape, starts, mean))
            else:
                shape = (*given.shape, shard.dim)
                self.requests.append(Request(given.numel(), shape, None, False))
            numbers.append(flat(given).to(device, torch.int64))
        ids_P: Tensor | None = torch.zeros(0, dtype=torch.int64, device=device)
        if tables:
            offsets = [shard.offsets[table.name] for table in tables]
            ids_P = shard.ops.join(numbers, [table.num_rows for table in tables], offsets)
        if ids_P is None:
            raise ContractError(
                next(filter(None, (range_problem(table, ids[table.name]) for table in tables)))
            )
        sizes = [request.num_ids for request in self.requests]
        self.wanted: Wanted = shard.ops.distinct(ids_P, sizes, shard.spread)

    @property
    def names_ids(self) -> bool:
        return len(self.wanted.place_P) > 0

    @property
    def has_gradients(self) -> bool:
        return bool(self._grads)

    def vectors(self, sources: Sequence[Source]) -> dict[str, Tensor]:
        """By table, (*ids.shape, D) or (B, D). The sources, one after the other, are the U rows that are wanted."""
        if not self.names:
            return {}
        made = self.shard.ops.vectors(sources, self.wanted, self.requests, self.shard.dim)
        return dict(zip(self.names, made, strict=True))

    def learn(self, name: str, grad: Tensor) -> None:
        """Take up a gradient of what ``vectors`` gave; those of several backward passes add up."""
        grad = grad.detach().reshape(-1, self.shard.dim)
        self._grads[name] = self._grads[name] + grad if name in self._grads else grad

    def sum(self, outs: Sequence[Tensor]) -> str:
        """The gradients by distinct row into ``outs``, by the rank that holds the row, (U, D) each.

        Returns what is wrong with them: the first row whose gradient is not finite.
        """
        if not self.names_ids:
            return ""
        nothing = self.shard.weight_RD.new_zeros(1, self.shard.dim)
        grads = [
            self._grads.get(name, nothing.expand(request.num_vectors, -1))
            for name, request in zip(self.names, self.requests, strict=True)
        ]
        bad = self.shard.ops.sum(grads, self.requests, self.wanted, outs)
        if bad < 0:
            return ""
        rank = int(torch.repeat_interleave(torch.tensor(self.wanted.counts_N))[bad])
        row = self.shard.name_row(int(self.wanted.rows_U[bad]), rank)
        return f"gradient of {row} is not finite"
