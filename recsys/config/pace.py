"""How a model is trained, whatever it is."""

from __future__ import annotations

from typing import ClassVar

from recsys.config.base import Config
from recsys.errors import ConfigError


class Pace(Config):
    """What the training loop asks of a model's section; each section says its own defaults."""

    section: ClassVar[str]

    global_batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    max_gradient_norm: float
    max_epochs: int
    patience: int

    def share_of_rate(self, step: int) -> float:
        """What of the learning rate holds at a step, counted from 1: it rises over ``warmup_steps`` and stays."""
        return min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0

    def batch_size_of_each(self, num_processes: int) -> int:
        """Split the global batch evenly.

        Raises:
            ConfigError: it does not divide; the message names the nearest that does.
        """
        size, remainder = divmod(self.global_batch_size, num_processes)
        if remainder:
            nearest = max(1, round(self.global_batch_size / num_processes)) * num_processes
            raise ConfigError(
                f"{self.section}.global_batch_size={self.global_batch_size} does not divide over "
                f"{num_processes} processes; nearest that does: {nearest}"
            )
        return size
