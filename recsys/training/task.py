"""What the loop trains: tables, a dense module, and a loss over the vectors that a batch asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from recsys.data import Batch, Examples
from recsys.embeddings import Bags, Comm, EmbeddingTable, ShardedEmbeddings


@dataclass(frozen=True)
class Asked:
    """The ids that a batch needs, and what else the loss takes of it."""

    ids: Mapping[str, Tensor | Bags]
    context: Any = None


class Task(Protocol):
    """A model as the loop sees it. ``tables`` are spread over the ranks, ``dense`` is whole on each."""

    tables: tuple[EmbeddingTable, ...]
    dense: nn.Module
    metric: str
    """What ``validate`` gives, as the log names it."""

    def keep(self, examples: Examples) -> Examples:
        """The examples that teach something; the others cost as much."""

    def ask(self, batch: Batch, draw: torch.Generator) -> Asked:
        """Draw the negatives of a batch and name the ids to look up."""

    def loss(self, asked: Asked, vectors: Mapping[str, Tensor]) -> Tensor:
        """Mean over this rank's batch; 0 where it teaches nothing, with every gradient there all the same.

        The loop weighs it by the number of examples of the batch among those of all ranks.
        """

    def validate(
        self, embeddings: ShardedEmbeddings, comm: Comm, each_batch: Callable[[], None]
    ) -> float | None:
        """Greater is better, the same on every rank; None without anything to validate on. Collective.

        ``each_batch`` is called once a batch: validation may take longer than a rank may say nothing.
        """
