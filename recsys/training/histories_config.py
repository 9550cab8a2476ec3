"""What decides the weights of a network over histories."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from recsys.config.pace import Pace


class HistoriesConfig(Pace):
    """Tuned on the last-but-one items of Amazon Beauty alone (leave-one-out), and the same for every shop."""

    section: ClassVar[str] = "histories"

    network: Literal["transformer", "recurrent"] = "transformer"
    embedding_dim: int = Field(64, ge=8)
    max_length: int = Field(50, ge=1)
    """Newest events of a history that count."""
    num_blocks: int = Field(2, ge=1)
    """Of the transformer; layers of the recurrent network."""
    num_heads: int = Field(2, ge=1)
    dropout: float = Field(0.4, ge=0, le=0.99)
    """In steps of 1 / 256: beyond .99 next to nothing would be left to learn from, and at last nothing at all."""
    days: bool = False
    """Whether histories say when; set by the shop."""
    quiet_days: float = Field(0.0, ge=0)
    """An event is predicted from the newest one that is at least so much older; 0 without days."""
    exclude_seen: bool = True
    """Epochs are chosen for lists without what the user had; set by the shop."""
    attributes: bool = False
    """Add to an item's vector the mean of its attributes'; set by the shop."""
    num_negatives: int = Field(1024, ge=1)
    """Items per step and process that every prediction is told from; all of a smaller catalogue."""
    popularity_power: float = Field(0.5, ge=0)
    """A share of the negatives is drawn with chances that grow with an item's events to this power."""
    popular_share: float = Field(0.5, ge=0, le=1)
    """That share; the rest is uniform."""
    global_batch_size: int = Field(20, ge=1)
    """Rows per step, over all processes; each holds max_length + 1 events of one or several histories. Every process
    takes as many: see ``rounded_batch_size``."""
    learning_rate: float = Field(3e-3, gt=0)
    table_learning_rate: float = Field(6e-3, gt=0)
    """Of item vectors."""
    initial_norm: float = Field(1.0, gt=0)
    """Length of a fresh item vector."""
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(50, ge=0)
    fading_steps: int = Field(0, ge=0)
    """Steps until the rates have fallen to nothing, as half a wave of a cosine (Loshchilov and Hutter, 2017); set by
    the number of epochs. 0: they stay."""
    max_gradient_norm: float = Field(1.0, gt=0)
    max_epochs: int = Field(16, ge=1)
    patience: int = Field(4, ge=1)
    """Epochs without a better validation NDCG before choosing stops."""

    def share_of_rate(self, step: int) -> float:
        share = super().share_of_rate(step)
        if self.fading_steps:
            done = min(1.0, step / self.fading_steps)
            share *= 0.5 * (1.0 + math.cos(math.pi * done))
        return share

    def rounded_batch_size(self, num_processes: int) -> int:
        """Rows per step that so many processes share evenly: of 20, three take 18, and 32 take one each.

        Weights depend on it; they do on the number of processes in any case, since each draws its own negatives.
        """
        return max(1, self.global_batch_size // num_processes) * num_processes

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.embedding_dim % self.num_heads:
            raise ValueError(
                f"embedding_dim must be a multiple of num_heads, got {self.embedding_dim} with "
                f"{self.num_heads} heads"
            )
        return self
