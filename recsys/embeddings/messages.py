"""The three messages of a step between a rank and all others: ids, their rows, the sums of their gradients.

A rank that has a problem says so in the message that is due anyway, so that all ranks end with its error and none waits
for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from recsys.embeddings.asked import Asked
from recsys.embeddings.comm import Comm
from recsys.embeddings.figures import StepFigures
from recsys.embeddings.routing import Padding, Parts
from recsys.embeddings.rows import Source
from recsys.embeddings.shard import Shard
from recsys.errors import ContractError, Refused

# Shape suffixes in this file:
#   U distinct rows of a batch   D embedding width

IDS, ROWS, GRADIENTS = "embedding ids", "embedding rows", "embedding gradients"
"""Names of the messages: Horovod knows one by its name."""

Gradients = tuple[Parts | None, list[Tensor]]
"""Sums by distinct row: for the other ranks as a message (None where there is no other), for this one by shard."""


class Messages:
    """What is exchanged for the shards whose rows are spread. Every method is collective.

    Messages of one purpose, so of like sizes from step to step, belong in one object.
    """

    def __init__(
        self, comm: Comm, shards: Sequence[Shard], like: Tensor, figures: StepFigures
    ) -> None:
        """Rows travel in the type of ``like`` and lie on its device."""
        self._comm, self._shards, self._like, self._figures = comm, shards, like, figures
        self._paddings = {name: Padding(comm.size) for name in (IDS, ROWS, GRADIENTS)}
        self._others = [rank for rank in range(comm.size) if rank != comm.rank]

    def tell(self, asked: Sequence[Asked], problem: str) -> list[list[Tensor]]:
        """Tell every rank which of its rows are wanted; returns, by shard and rank, what is wanted of this one.

        Raises:
            ContractError: on every rank, where one has a ``problem``.
        """
        mine = [one.wanted.by_rank for one in asked]
        if not self._others:
            if problem:
                self.refuse(ContractError, problem, "ids")
            return [list(rows) for rows in mine]
        head = 1 + len(asked)
        with self._figures.timed("route"):
            counts = [[one.wanted.counts_N[rank] for one in asked] for rank in self._ranks]
            parts = self._parts(IDS, [[head, *of_rank] for of_rank in counts], torch.int64)
            for rank in self._others:
                told, *pieces = parts.pieces(rank)
                told.copy_(torch.tensor([int(bool(problem)), *counts[rank]]))
                for piece, rows in zip(pieces, mine, strict=True):
                    piece.copy_(rows[rank])
        received = self._exchange(parts, IDS)
        heads = {rank: received[rank][:head].tolist() for rank in self._others}
        if problem or any(told[0] for told in heads.values()):
            self.refuse(ContractError, problem, "ids")
        of_me = [list(rows) for rows in mine]
        for rank, (_, *sizes) in heads.items():
            asked_for = received[rank][head : head + sum(sizes)].split_with_sizes(sizes)
            for of_shard, of_rank in zip(of_me, asked_for, strict=True):
                of_shard[rank] = of_rank
        return of_me

    def fetch(
        self, asked: Sequence[Asked], of_me: Sequence[Sequence[Tensor]]
    ) -> list[list[Source]]:
        """Give each rank the rows it asked for; returns where those lie that this one asked for, by shard and rank."""
        sources = [
            [Source(one.shard.weight_RD, one.wanted.by_rank[self._comm.rank])] * self._comm.size
            for one in asked
        ]
        if not self._others:
            return sources
        with self._figures.timed("look_up"):
            sizes = [
                [len(rows[rank]) * one.shard.dim for one, rows in zip(asked, of_me, strict=True)]
                for rank in self._ranks
            ]
            parts = self._parts(ROWS, sizes, self._like.dtype)
            for rank in self._others:
                for one, rows, piece in zip(asked, of_me, parts.pieces(rank), strict=True):
                    wanted = Source(one.shard.weight_RD, rows[rank])
                    one.shard.ops.copy(wanted, piece.view(-1, one.shard.dim))
        received = self._exchange(parts, ROWS)
        for rank in self._others:
            start = 0
            for one, of_shard in zip(asked, sources, strict=True):
                end = start + one.wanted.counts_N[rank] * one.shard.dim
                of_shard[rank] = Source(received[rank][start:end].view(-1, one.shard.dim))
                start = end
        return sources

    def sum(self, asked: Sequence[Asked]) -> tuple[Gradients, str]:
        """The gradients summed by row, not sent yet; and what is wrong with them."""
        mine = [
            one.shard.ops.empty(one.shard.weight_RD, count * one.shard.dim).view(count, -1)
            if (count := one.wanted.counts_N[self._comm.rank])
            else one.shard.weight_RD.new_empty(0, one.shard.dim)
            for one in asked
        ]
        parts = None
        outs = [[of_me] * self._comm.size for of_me in mine]
        if self._others:
            sizes = [
                [1, *(one.wanted.counts_N[rank] * one.shard.dim for one in asked)]
                for rank in self._ranks
            ]
            parts = self._parts(GRADIENTS, sizes, self._like.dtype)
            for rank in self._others:
                _, *pieces = parts.pieces(rank)
                for one, of_shard, piece in zip(asked, outs, pieces, strict=True):
                    of_shard[rank] = piece.view(-1, one.shard.dim)
        problems = [one.sum(of_shard) for one, of_shard in zip(asked, outs, strict=True)]
        return (parts, mine), next(filter(None, problems), "")

    def exchange_gradients(
        self, gradients: Gradients, of_me: Sequence[Sequence[Tensor]], problem: str
    ) -> list[list[Tensor]]:
        """The sums that the ranks have for this rank's rows, by shard and rank, (U, D) each.

        Raises:
            Refused: on every rank, where one has a ``problem``.
        """
        parts, mine = gradients
        grads = [[of_shard] * self._comm.size for of_shard in mine]
        failed = bool(problem)
        if parts is not None:
            for rank in self._others:
                parts.pieces(rank)[0].fill_(failed)
            received = self._exchange(parts, GRADIENTS)
            failed = failed or any(bool(received[rank][0]) for rank in self._others)
            for rank in self._others:
                start = 1
                for shard, rows, of_shard in zip(self._shards, of_me, grads, strict=True):
                    end = start + len(rows[rank]) * shard.dim
                    of_shard[rank] = received[rank][start:end].view(-1, shard.dim)
                    start = end
        if failed:
            self.refuse(Refused, problem, "gradients")
        return grads

    def refuse(self, kind: type[ContractError | Refused], problem: str, what: str) -> NoReturn:
        """Raise what any rank has to say, on all of them."""
        texts = self._comm.gather_texts(problem, f"embedding {what} refused")
        raise kind("; ".join(f"rank {rank}: {text}" for rank, text in enumerate(texts) if text))

    @property
    def _ranks(self) -> range:
        return range(self._comm.size)

    def _parts(self, name: str, sizes: Sequence[Sequence[int]], dtype: torch.dtype) -> Parts:
        like = self._like.new_empty(0, dtype=dtype)
        splits = self._paddings[name].splits(sizes, self._comm.rank)
        # Without a shard a message has a head alone.
        empty = self._shards[0].ops.empty if self._shards else Tensor.new_empty
        return Parts(sizes, splits, lambda size: empty(like, size))

    def _exchange(self, parts: Parts, name: str) -> tuple[Tensor, ...]:
        """The parts that came, by rank."""
        with self._figures.timed("exchange"):
            came, splits = self._comm.exchange(parts.message, parts.splits, name)
        self._figures.sent_bytes += parts.message.numel() * parts.message.element_size()
        return came.split_with_sizes(splits)
