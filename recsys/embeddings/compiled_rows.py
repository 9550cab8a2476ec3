"""The row operations for float32 on a CPU, in the compiled kernel (docs/adr/0011-the-embedding-kernel.md).

They do what ``TorchRows`` does, each row touched once. Pointers go to the kernel, so what they point at is held by a
name here until it returns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from recsys.embeddings.buffers import Buffers
from recsys.embeddings.kernel import kernel
from recsys.embeddings.routing import Wanted
from recsys.embeddings.rows import Request, RowOps, Source, TorchRows, divisors
from recsys.embeddings.tables import LazyAdam, RowRule, RowwiseAdagrad, Sgd, Slots

# Shape suffixes in this file:
#   P ids of a batch, flat   B bags   U distinct rows   R rows of a shard   D embedding width   K pieces of a batch

FLOAT_BYTES = 4


def row_ops(dtype: torch.dtype, device: torch.device) -> RowOps:
    if dtype == torch.float32 and device.type == "cpu" and (library := kernel()):
        return CompiledRows(library)
    return TorchRows()


class CompiledRows:
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
            shared = grad / divisors(request) if request.mean else grad
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


def _addresses(source: Source) -> Tensor:
    """Of each row, in the memory of this process."""
    tensor = source.tensor_RD
    assert tensor.shape[1] == 0 or tensor.stride(1) == 1
    rows = torch.arange(len(tensor)) if source.rows_U is None else source.rows_U
    return rows * (tensor.stride(0) * FLOAT_BYTES) + tensor.data_ptr()
