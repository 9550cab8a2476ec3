"""One rank's rows of the embedding tables that are alike, and their updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recsys.embeddings.tables import EmbeddingTable, Slots, fresh_rows

# Shape suffixes in this file:
#   A asked rows, a row as often as ranks asked for it   U distinct rows   R rows of the shard   D embedding width


class Shard:
    """This rank's rows of one or several tables of one width and one rule, and the state of the rule."""

    def __init__(self, tables: Sequence[EmbeddingTable], rank: int, spread: int) -> None:
        """``spread`` ranks share each table; 1 where every rank has it whole (``rank`` is 0 then)."""
        self.tables = tuple(tables)
        self.rule, self.dim, self.spread = tables[0].rule, tables[0].dim, spread
        self.offsets: dict[str, int] = {}
        rows = 0
        for table in tables:
            self.offsets[table.name] = rows * spread
            rows += -(-table.rows // spread)
        self.rank, self.num_rows = rank, rows
        self.weight_RD = torch.zeros(0, self.dim)
        self.slots: Slots = {}

    def fill(self, numbers: Mapping[str, int], seed: int, dtype: torch.dtype) -> None:
        """Fresh rows; ``numbers`` are the tables' places in the collection, part of each one's seed."""
        self.weight_RD = torch.zeros(self.num_rows, self.dim, dtype=dtype)
        for table in self.tables:
            rows = fresh_rows(
                table, (seed, numbers[table.name]), slice(self.rank, None, self.spread), dtype
            )
            start = self.offsets[table.name] // self.spread
            self.weight_RD[start : start + len(rows)] = rows
        self.slots = self.rule.slots(self.weight_RD)

    def rows_of(self, table: EmbeddingTable) -> Tensor:
        """This rank's rows of one table, not copied."""
        start = self.offsets[table.name] // self.spread
        return self.weight_RD[start : start + len(range(self.rank, table.rows, self.spread))]

    def name_row(self, row: int, rank: int) -> str:
        """The table and the id of a row of the shard of ``rank``."""
        id_ = row * self.spread + rank
        table = [table for table in self.tables if self.offsets[table.name] <= id_][-1]
        return f"table {table.name!r}, id {id_ - self.offsets[table.name]}"

    def update(self, rows_A: Tensor, grad_AD: Tensor, step: int) -> None:
        """Sum the gradients of each row, in the order they are given, and update it once."""
        rows_U, place_A = torch.unique(rows_A, return_inverse=True)
        grad_UD = grad_AD.new_zeros(len(rows_U), self.dim).index_add_(0, place_A, grad_AD)
        self.rule.update(self.weight_RD, self.slots, rows_U, grad_UD, step)
