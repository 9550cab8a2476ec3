"""The rows of a whole table with the greatest inner products, while every row stays on its rank.

The queries travel, not the rows: each round brings a block of every rank's queries to all ranks, each scores
its own rows, and the few best of each go back to the rank that asked. Nothing that is held grows with the table.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from recsys.embeddings.comm import Comm

# Shape suffixes in this file:
#   Q queries   R rows of a rank   B rows scored at once   N wanted   C candidates   D embedding width

CELLS = 4_000_000
"""Scores held at once: 16 MB in float32."""

QUERIES_PER_ROUND = 1024
"""Of all ranks together."""


def best_rows(queries_QD: Tensor, weight_RD: Tensor, skip: int, n: int) -> tuple[Tensor, Tensor]:
    """Row numbers and scores of the at most ``n`` best rows from ``skip`` on, best first, ties to the smaller row."""
    scores_QN = queries_QD.new_empty(len(queries_QD), 0)
    rows_QN = torch.empty(len(queries_QD), 0, dtype=torch.int64, device=queries_QD.device)
    rows_at_once = max(n, CELLS // max(len(queries_QD), 1))
    for start in range(skip, len(weight_RD), rows_at_once):
        scores_QB = queries_QD @ weight_RD[start : start + rows_at_once].T
        columns_QN = _best_columns(scores_QB, n)
        scores_QC = torch.cat([scores_QN, scores_QB.gather(1, columns_QN)], dim=1)
        rows_QC = torch.cat([rows_QN, columns_QN + start], dim=1)
        scores_QN, rows_QN = _best_of(scores_QC, rows_QC, n)
    return rows_QN, scores_QN


def best_of_all_ranks(
    comm: Comm, queries_QD: Tensor, weight_RD: Tensor, skip: int, n: int
) -> tuple[Tensor, Tensor]:
    """As ``best_rows`` over the rows of all ranks; row r of rank k is id r x size + k. Collective."""
    ids: list[Tensor] = []
    scores: list[Tensor] = []
    for block_QD in _blocks(comm, queries_QD):
        width = block_QD.shape[1]
        asked, sizes = comm.exchange(
            block_QD.flatten().repeat(comm.size), [block_QD.numel()] * comm.size, "queries"
        )
        rows_QN, scores_QN = best_rows(asked.view(-1, width), weight_RD, skip, n)
        found = rows_QN.shape[1]
        splits = [size // width * found for size in sizes]
        ids_came, parts = comm.exchange(
            (rows_QN * comm.size + comm.rank).flatten(), splits, "best ids"
        )
        scores_came, _ = comm.exchange(scores_QN.flatten(), splits, "best scores")
        mine = len(block_QD)
        if mine:
            best_QN, ids_QN = _best_of(
                torch.cat([p.view(mine, -1) for p in scores_came.split_with_sizes(parts)], dim=1),
                torch.cat([p.view(mine, -1) for p in ids_came.split_with_sizes(parts)], dim=1),
                n,
            )
            ids.append(ids_QN)
            scores.append(best_QN)
    if not ids:
        return torch.zeros(0, n, dtype=torch.int64, device=queries_QD.device), queries_QD.new_zeros(
            0, n
        )
    return torch.cat(ids), torch.cat(scores)


def _blocks(comm: Comm, queries_QD: Tensor) -> Iterator[Tensor]:
    """This rank's queries in as many blocks as the rank with the most queries has; the last ones may be empty."""
    at_once = max(1, QUERIES_PER_ROUND // comm.size)
    mine = torch.tensor([len(queries_QD)], device=queries_QD.device)
    lengths, _ = comm.exchange(mine.repeat(comm.size), [1] * comm.size, "number of queries")
    for start in range(0, int(lengths.max()), at_once):
        yield queries_QD[start : start + at_once]


def _best_columns(scores_QB: Tensor, n: int) -> Tensor:
    """The columns of the ``n`` greatest of each row, ascending; among equals the first columns."""
    n = min(n, scores_QB.shape[1])
    found = scores_QB.topk(n, dim=1)
    least_Q1 = found.values[:, -1:]
    columns_QN = found.indices.sort(dim=1).values
    # topk takes any of those that equal the last one taken: where there are more of them, choose again.
    tied = ((scores_QB >= least_Q1).sum(dim=1) > n).nonzero().squeeze(1)
    if len(tied):
        above = scores_QB[tied] > least_Q1[tied]
        equal = scores_QB[tied] == least_Q1[tied]
        missing = n - above.sum(dim=1, keepdim=True)
        taken = above | (equal & (equal.cumsum(dim=1) <= missing))
        columns_QN[tied] = taken.nonzero()[:, 1].view(-1, n)
    return columns_QN


def _best_of(scores_QC: Tensor, ids_QC: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The ``n`` best candidates, best first, ties to the smaller id."""
    by_id = ids_QC.argsort(dim=1)
    order = scores_QC.gather(1, by_id).argsort(dim=1, descending=True, stable=True)[:, :n]
    chosen = by_id.gather(1, order)
    return scores_QC.gather(1, chosen), ids_QC.gather(1, chosen)
