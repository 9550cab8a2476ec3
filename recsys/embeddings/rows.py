"""The work of a step on the rows themselves: find the distinct ones, copy, sum gradients, update.

``TorchRows`` runs on every device and type, and says what is meant; compiled_rows.py does the same for float32 on
a CPU, each row touched once. Both add gradients in the order of the ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from recsys.embeddings.routing import Wanted
from recsys.embeddings.tables import RowRule, Slots

# Shape suffixes in this file:
#   P ids of a batch, flat   B bags   U distinct rows   R rows of a shard   D embedding width


class Source(NamedTuple):
    """Rows of one rank: all of a tensor, or some rows of it."""

    tensor_RD: Tensor
    rows_U: Tensor | None = None


class Request(NamedTuple):
    """What one table is asked for."""

    num_ids: int
    shape: tuple[int, ...]
    """Of the vectors: (*ids.shape, D) or (B, D)."""
    starts_B: Tensor | None
    """Where each bag starts among the table's ids; None: one vector per id."""
    mean: bool

    @property
    def num_vectors(self) -> int:
        return self.num_ids if self.starts_B is None else len(self.starts_B)

    @property
    def ends_B(self) -> Tensor:
        """(B + 1,): where each bag starts, and where the last one ends."""
        assert self.starts_B is not None
        return torch.cat([self.starts_B, self.starts_B.new_tensor([self.num_ids])])


class RowOps(Protocol):
    def empty(self, like: Tensor, size: int) -> Tensor:
        """A flat tensor of the type and device of ``like``, to be filled."""

    def join(
        self, ids: Sequence[Tensor], rows: Sequence[int], offsets: Sequence[int]
    ) -> Tensor | None:
        """The ids of all tables, flat and int64, with what is added to each table's.

        None where one is not in 0 to the table's ``rows`` - 1.
        """

    def distinct(self, ids_P: Tensor, sizes: Sequence[int], ranks: int) -> Wanted:
        """Each distinct id once. ``sizes`` by table (no id in two of them); id i lies on rank i mod ranks."""

    def vectors(
        self, sources: Sequence[Source], wanted: Wanted, requests: Sequence[Request], dim: int
    ) -> list[Tensor]:
        """For each table its vectors, of the shape requested. The sources, one after the other, are the U rows."""

    def copy(self, source: Source, out_UD: Tensor) -> None:
        """The rows of one source, in its order, into a contiguous (U, D)."""

    def sum(
        self, grads: Sequence[Tensor], requests: Sequence[Request], wanted: Wanted, outs: Sequence[Tensor]
    ) -> int:  # fmt: skip
        """Sum the vectors' gradients by distinct row into ``outs``, which one after the other are the U rows.

        Returns the first row whose sum is not finite, or -1.
        """

    def update(
        self, rule: RowRule, weight_RD: Tensor, slots: Slots, rows: Sequence[Tensor],
        grads: Sequence[Tensor], *, scale: float, step: int,
    ) -> None:  # fmt: skip
        """Update each row once, by the sum of its gradients times ``scale``.

        ``rows`` and ``grads`` by rank: distinct within a rank, and added in the order of the ranks.
        """


class TorchRows:
    def empty(self, like: Tensor, size: int) -> Tensor:
        return like.new_empty(size)

    def join(
        self, ids: Sequence[Tensor], rows: Sequence[int], offsets: Sequence[int]
    ) -> Tensor | None:
        outside = [((of < 0) | (of >= n)).any() for of, n in zip(ids, rows, strict=True)]
        if torch.stack(outside).any():
            return None
        return torch.cat([of + offset for of, offset in zip(ids, offsets, strict=True)])

    def distinct(self, ids_P: Tensor, sizes: Sequence[int], ranks: int) -> Wanted:
        distinct_U, inverse_P = torch.unique(ids_P, return_inverse=True)
        owner_U = distinct_U % ranks
        by_owner_U = torch.argsort(owner_U, stable=True)
        place_U = torch.empty_like(by_owner_U)
        place_U[by_owner_U] = torch.arange(len(by_owner_U), device=place_U.device)
        place_P = place_U[inverse_P]
        sizes_U = torch.bincount(place_P, minlength=len(distinct_U))
        return Wanted(
            rows_U=distinct_U[by_owner_U] // ranks,
            counts_N=torch.bincount(owner_U, minlength=ranks).tolist(),
            place_P=place_P,
            starts_K=torch.cat([sizes_U.new_zeros(1), sizes_U.cumsum(0)]),
            order_P=torch.argsort(place_P, stable=True),
        )

    def vectors(
        self, sources: Sequence[Source], wanted: Wanted, requests: Sequence[Request], dim: int
    ) -> list[Tensor]:
        rows_UD = torch.cat([_rows(source) for source in sources])
        vectors = []
        places = wanted.place_P.split_with_sizes([request.num_ids for request in requests])
        for request, place_P in zip(requests, places, strict=True):
            if request.starts_B is None:
                vectors.append(rows_UD[place_P.view(request.shape[:-1])])
                continue
            pooled_BD = _sums(rows_UD[place_P], request.ends_B)
            vectors.append(pooled_BD / divisors(request) if request.mean else pooled_BD)
        return vectors

    def copy(self, source: Source, out_UD: Tensor) -> None:
        out_UD.copy_(_rows(source))

    def sum(
        self, grads: Sequence[Tensor], requests: Sequence[Request], wanted: Wanted, outs: Sequence[Tensor]
    ) -> int:  # fmt: skip
        per_id = []
        for grad, request in zip(grads, requests, strict=True):
            if request.starts_B is None:
                per_id.append(grad)
                continue
            shared_BD = grad / divisors(request) if request.mean else grad
            per_id.append(shared_BD.repeat_interleave(request.ends_B.diff(), dim=0))
        sums_UD = _sums(torch.cat(per_id)[wanted.order_P], wanted.starts_K)
        for part_UD, out_UD in zip(
            sums_UD.split_with_sizes([len(out) for out in outs]), outs, strict=True
        ):
            out_UD.copy_(part_UD)
        bad_U = ~sums_UD.isfinite().all(dim=1)
        return int(bad_U.to(torch.uint8).argmax()) if bad_U.any() else -1

    def update(
        self, rule: RowRule, weight_RD: Tensor, slots: Slots, rows: Sequence[Tensor],
        grads: Sequence[Tensor], *, scale: float, step: int,
    ) -> None:  # fmt: skip
        rows_U, grad_UD = torch.cat(list(rows)), torch.cat(list(grads))
        if len(rows) > 1:
            wanted = self.distinct(rows_U, [len(rows_U)], 1)
            rows_U = wanted.rows_U
            grad_UD = _sums(grad_UD[wanted.order_P], wanted.starts_K)
        rule.update(weight_RD, slots, rows_U, grad_UD * scale, step)


def _sums(rows: Tensor, starts: Tensor) -> Tensor:
    """Of consecutive rows, each from one start to the next; from left to right on every device."""
    lengths = starts.diff()
    if len(lengths) == 0:
        return rows[:0]
    return torch.segment_reduce(rows, "sum", lengths=lengths, initial=0, unsafe=True)


def _rows(source: Source) -> Tensor:
    return source.tensor_RD if source.rows_U is None else source.tensor_RD[source.rows_U]


def divisors(request: Request) -> Tensor:
    """What the sum of a bag is divided by for its mean, (B, 1)."""
    return request.ends_B.diff().clamp(min=1).unsqueeze(1)
