"""The work of a step on the rows themselves: find the distinct ones, copy, sum gradients, update.

``TorchRows`` runs on every device and type, and says what is meant; ``CompiledRows`` does the same for float32 on
a CPU, each row touched once (docs/adr/0011-the-embedding-kernel.md). Both add gradients in the order of the ids.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from recsys.embeddings.buffers import Buffers
from recsys.embeddings.kernel import kernel
from recsys.embeddings.routing import Wanted
from recsys.embeddings.tables import LazyAdam, RowRule, RowwiseAdagrad, Sgd, Slots

# Shape suffixes in this file:
#   P ids of a batch, flat   B bags   U distinct rows   R rows of a shard   D embedding width

FLOAT_BYTES = 4


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
        """For each table its vectors. The sources, one after the other, are the U rows."""

    def copy(self, source: Source, out_UD: Tensor) -> None: ...

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


def row_ops(dtype: torch.dtype, device: torch.device) -> RowOps:
    if dtype == torch.float32 and device.type == "cpu" and (library := kernel()):
        return CompiledRows(library)
    return TorchRows()


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
            vectors.append(pooled_BD / _divisors(request) if request.mean else pooled_BD)
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
            shared_BD = grad / _divisors(request) if request.mean else grad
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


class CompiledRows:
    """Pointers go to the kernel, so what they point at is held by a name here until it returns."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._buffers = Buffers()

    def empty(self, like: Tensor, size: int) -> Tensor:
        return self._buffers.empty(size) if like.dtype == torch.float32 else like.new_empty(size)

    def join(
        self, ids: Sequence[Tensor], rows: Sequence[int], offsets: Sequence[int]
    ) -> Tensor | None:
        held = [of_table.contiguous() for of_table in ids]
        sizes = [len(of_table) for of_table in held]
        facts = torch.tensor([[of_table.data_ptr() for of_table in held], sizes, rows, offsets])
        ids_P = torch.empty(sum(sizes), dtype=torch.int64)
        bad = self._library.join(len(held), *(fact.data_ptr() for fact in facts), ids_P.data_ptr())
        return ids_P if bad < 0 else None

    def distinct(self, ids_P: Tensor, sizes: Sequence[int], ranks: int) -> Wanted:
        of_tables = torch.tensor(sizes, dtype=torch.int64)
        pieces = ranks * self._library.pieces(len(sizes), of_tables.data_ptr(), ranks)
        rows_U, place_P, order_P = (torch.empty_like(ids_P) for _ in range(3))
        starts_K, counts_N = ids_P.new_empty(pieces + 1), ids_P.new_empty(ranks)
        num = self._library.distinct(
            ids_P.data_ptr(), len(sizes), of_tables.data_ptr(), ranks, rows_U.data_ptr(),
            counts_N.data_ptr(), place_P.data_ptr(), starts_K.data_ptr(), order_P.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return Wanted(rows_U[:num], counts_N.tolist(), place_P, starts_K, order_P)

    def vectors(
        self, sources: Sequence[Source], wanted: Wanted, requests: Sequence[Request], dim: int
    ) -> list[Tensor]:
        from_U = torch.cat([_addresses(source) for source in sources])
        vectors = self._buffers.split([request.shape for request in requests])
        threads = torch.get_num_threads()
        if all(request.starts_B is None for request in requests):
            # They lie side by side; the address of one without rows is no address.
            first = max(vectors, key=lambda of_table: of_table.numel() > 0)
            self._library.take(
                from_U.data_ptr(), wanted.place_P.data_ptr(), len(wanted.place_P), dim,
                first.data_ptr(), threads,
            )  # fmt: skip
            return vectors
        places = wanted.place_P.split_with_sizes([request.num_ids for request in requests])
        for request, place_P, out in zip(requests, places, vectors, strict=True):
            if request.starts_B is None:
                self._library.take(
                    from_U.data_ptr(), place_P.data_ptr(), len(place_P), dim, out.data_ptr(), threads
                )  # fmt: skip
                continue
            ends_B = request.ends_B
            self._library.take_bags(
                from_U.data_ptr(), place_P.data_ptr(), ends_B.data_ptr(), request.num_vectors, dim,
                int(request.mean), out.data_ptr(), threads,
            )  # fmt: skip
        return vectors

    def copy(self, source: Source, out_UD: Tensor) -> None:
        from_U = _addresses(source)
        places_U = torch.arange(len(from_U))
        self._library.take(
            from_U.data_ptr(), places_U.data_ptr(), len(from_U), out_UD.shape[1], out_UD.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip

    def sum(
        self, grads: Sequence[Tensor], requests: Sequence[Request], wanted: Wanted, outs: Sequence[Tensor]
    ) -> int:  # fmt: skip
        from_P, held = self._gradient_addresses(grads, requests)
        bad = self._sum(from_P, wanted, outs)
        del held
        return bad

    def update(
        self, rule: RowRule, weight_RD: Tensor, slots: Slots, rows: Sequence[Tensor],
        grads: Sequence[Tensor], *, scale: float, step: int,
    ) -> None:  # fmt: skip
        if not isinstance(rule, Sgd | RowwiseAdagrad | LazyAdam):
            TorchRows().update(rule, weight_RD, slots, rows, grads, scale=scale, step=step)
            return
        rows_U, grad_UD = rows[0].contiguous(), grads[0].contiguous()
        if len(rows) > 1:
            all_P = torch.cat(list(rows))
            wanted = self.distinct(all_P, [len(all_P)], 1)
            rows_U = wanted.rows_U
            grad_UD = self._buffers.empty(len(rows_U), weight_RD.shape[1])
            self._sum(torch.cat([_addresses(Source(grad)) for grad in grads]), wanted, [grad_UD])
        common = (
            weight_RD.data_ptr(), rows_U.data_ptr(), len(rows_U), weight_RD.shape[1],
            grad_UD.data_ptr(), scale, torch.get_num_threads(),
        )  # fmt: skip
        match rule:
            case Sgd():
                self._library.update_sgd(*common, rule.learning_rate)
            case RowwiseAdagrad():
                self._library.update_adagrad(
                    *common, slots["sum"].data_ptr(), rule.learning_rate, rule.epsilon
                )
            case LazyAdam():
                self._library.update_adam(
                    *common, slots["mean"].data_ptr(), slots["square"].data_ptr(), rule.rate(step),
                    1 - rule.beta1, 1 - rule.beta2, rule.epsilon,
                )  # fmt: skip

    def _sum(self, from_P: Tensor, wanted: Wanted, outs: Sequence[Tensor]) -> int:
        """The first row, of all ``outs``, whose sum is not finite, or -1."""
        starts = wanted.starts_K.data_ptr()
        pieces, first, bad = (len(wanted.starts_K) - 1) // len(outs), 0, -1
        for number, out_UD in enumerate(outs):
            found = self._library.sum_rows(
                from_P.data_ptr(), wanted.place_P.data_ptr(), wanted.order_P.data_ptr(),
                starts + number * pieces * wanted.starts_K.element_size(), pieces, first,
                out_UD.shape[1], out_UD.data_ptr(), torch.get_num_threads(),
            )  # fmt: skip
            bad = found if bad < 0 else bad
            first += len(out_UD)
        return bad

    def _gradient_addresses(
        self, grads: Sequence[Tensor], requests: Sequence[Request]
    ) -> tuple[Tensor, list[Tensor]]:
        """The address of each id's gradient; and what must not be freed while they are used."""
        held, ends = [], []
        for grad, request in zip(grads, requests, strict=True):
            shared = grad / _divisors(request) if request.mean else grad
            held.append(shared if shared.stride(1) == 1 else shared.contiguous())
            ends.append(None if request.starts_B is None else request.ends_B)
        num_ids = sum(request.num_ids for request in requests)
        from_P = torch.empty(num_ids, dtype=torch.int64)
        facts = torch.tensor(
            [
                [grad.data_ptr() for grad in held],
                [grad.stride(0) for grad in held],
                [request.num_ids for request in requests],
                [0 if end is None else end.data_ptr() for end in ends],
                [request.num_vectors for request in requests],
            ]
        )
        self._library.point(
            len(held), *(fact.data_ptr() for fact in facts), num_ids, from_P.data_ptr()
        )
        return from_P, held


def _sums(rows: Tensor, starts: Tensor) -> Tensor:
    """Of consecutive rows, each from one start to the next; from left to right on every device."""
    lengths = starts.diff()
    if len(lengths) == 0:
        return rows[:0]
    return torch.segment_reduce(rows, "sum", lengths=lengths, initial=0, unsafe=True)


def _rows(source: Source) -> Tensor:
    return source.tensor_RD if source.rows_U is None else source.tensor_RD[source.rows_U]


def _addresses(source: Source) -> Tensor:
    """Of each row, in the memory of this process."""
    tensor = source.tensor_RD
    assert tensor.shape[1] == 0 or tensor.stride(1) == 1
    rows = torch.arange(len(tensor)) if source.rows_U is None else source.rows_U
    return rows * (tensor.stride(0) * FLOAT_BYTES) + tensor.data_ptr()


def _divisors(request: Request) -> Tensor:
    return request.ends_B.diff().clamp(min=1).unsqueeze(1)
