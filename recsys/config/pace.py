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
