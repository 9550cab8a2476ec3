"""One rank's rows of the embedding tables that are alike, and their updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from recsys.embeddings.buffers import zeros_in_large_pages
from recsys.embeddings.compiled_rows import row_ops
from recsys.embeddings.rows import RowOps
from recsys.embeddings.snapshot import FrozenRows, Snapshot
from recsys.embeddings.tables import EmbeddingTable, Slots, fill_fresh

# Shape suffixes in this file:
#   U distinct rows   R rows of the shard   D embedding width


class Shard:
    """This rank's rows of one or several tables of one width and one rule, and the state of the rule."""

    weight_RD: Tensor
    slots: Slots
    ops: RowOps
    _snapshot: Snapshot | None = None

    def __init__(self, tables: Sequence[EmbeddingTable], rank: int, spread: int) -> None:
        """``spread`` ranks share each table; 1 where every rank has it whole (``rank`` is 0 then)."""
        self.tables = tuple(tables)
        self.rule, self.dim, self.spread, self.rank = tables[0].rule, tables[0].dim, spread, rank
        self.offsets: dict[str, int] = {}
        """What is added to a table's ids. Id i with its offset is row i // spread of rank i % spread."""
        rows = 0
        for table in tables:
            self.offsets[table.name] = rows * spread
            rows += -(-table.num_rows // spread)
        self.num_rows = rows
        self._padding_rows = torch.tensor(
            [self.offsets[t.name] // spread for t in tables if t.padding and rank == 0],
            dtype=torch.int64,
        )

    def fill(
        self, numbers: Mapping[str, int], seed: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Fresh rows; ``numbers`` are the tables' places in the collection, part of each one's seed."""
        self.ops = row_ops(dtype, device)
        self._padding_rows = self._padding_rows.to(device)
        self.weight_RD = zeros_in_large_pages(self.num_rows, self.dim, dtype).to(device)
        for table in self.tables:
            place = (seed, numbers[table.name])
            fill_fresh(self.rows_of(table), table, place, slice(self.rank, None, self.spread))
        self.slots = self.rule.slots(self.weight_RD)
        self.clear_padding()

    def state_of(self, table: EmbeddingTable) -> dict[str, Tensor]:
        """This rank's rows of one table and of the rule's slots, not copied."""
        rows = self._slice_of(table)
        slots = {name: slot[rows] for name, slot in self.slots.items()}
        return {"weight": self.weight_RD[rows], **slots}

    def freeze(self) -> dict[str, dict[str, FrozenRows]]:
        """By table and array, this rank's rows as they are now, whatever becomes of them; until the next call."""
        if self._snapshot is not None:
            self._snapshot.close()
        arrays = {"weight": self.weight_RD, **self.slots}
        snapshot = self._snapshot = Snapshot(arrays)
        frozen: dict[str, dict[str, FrozenRows]] = {}
        for table in self.tables:
            rows = self._slice_of(table)
            frozen[table.name] = {
                name: FrozenRows(snapshot, name, rows.start, tuple(array[rows].shape), array.dtype)
                for name, array in arrays.items()
            }
        return frozen

    def thaw(self) -> None:
        """Nobody reads what ``freeze`` gave any more."""
        if self._snapshot is not None:
            self._snapshot.close()
        self._snapshot = None

    def rows_of(self, table: EmbeddingTable) -> Tensor:
        """This rank's rows of one table, not copied."""
        return self.weight_RD[self._slice_of(table)]

    def name_row(self, row: int, rank: int) -> str:
        """The table and the id of a row of the shard of ``rank``."""
        id_ = row * self.spread + rank
        table = [table for table in self.tables if self.offsets[table.name] <= id_][-1]
        return f"table {table.name!r}, id {id_ - self.offsets[table.name]}"

    def update(
        self, rows: Sequence[Tensor], grads: Sequence[Tensor], scale: float, step: int
    ) -> None:
        """Sum the gradients of each row in the order they are given (by rank), and update it once."""
        if not any(len(of_rank) for of_rank in rows):
            return
        with self._snapshot.changing(rows) if self._snapshot else nullcontext():
            self.ops.update(
                self.rule, self.weight_RD, self.slots, rows, grads, scale=scale, step=step
            )
            self.clear_padding()

    def clear_padding(self) -> None:
        """Padding may be updated as any row is, and is nothing again afterwards."""
        if len(self._padding_rows):
            for array in (self.weight_RD, *self.slots.values()):
                array.index_fill_(0, self._padding_rows, 0)

    def _slice_of(self, table: EmbeddingTable) -> slice:
        start = self.offsets[table.name] // self.spread
        return slice(start, start + len(range(self.rank, table.num_rows, self.spread)))
