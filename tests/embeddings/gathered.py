"""Whole tables, whichever ranks hold their rows."""

from __future__ import annotations

from torch import Tensor

from recsys.embeddings import ShardedEmbeddings


def gathered(made: ShardedEmbeddings, table: str, array: str = "weight") -> Tensor:
    """An array of a table on every rank, (rows, …), a copy. Collective."""
    mine, spread = made.state()[table][array], made.spread(table)
    if spread == 1:
        return mine.clone()
    flat = mine.reshape(-1)
    came, splits = made.comm.exchange(flat.repeat(spread), [len(flat)] * spread, "whole table")
    all_rows = mine.new_empty(made.tables[table].num_rows, *mine.shape[1:])
    for rank, part in enumerate(came.split_with_sizes(splits)):
        all_rows[rank::spread] = part.view(-1, *mine.shape[1:])
    return all_rows
