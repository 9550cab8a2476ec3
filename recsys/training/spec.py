"""What the training processes are told: one JSON document, paths and numbers, no objects of ours."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path

from recsys.config.base import Config
from recsys.config.sections import TrainingConfig
from recsys.data import ExampleFile

DECIDES_NO_WEIGHTS = {
    "when", "every_days", "launcher", "network_interface", "keep_checkpoints",
    "start_timeout_seconds", "stall_timeout_seconds", "num_processes",
}  # fmt: skip
"""Settings of ``training`` that may differ between two runs with equal weights, at one world size."""


def deciding_settings(training: TrainingConfig) -> dict[str, object]:
    """The part of the section that decides the weights, to the last bit, at one world size."""
    return training.model_dump(mode="json", exclude=DECIDES_NO_WEIGHTS)


def recipe_settings(training: TrainingConfig) -> dict[str, object]:
    """What decides how good the weights are: threads change their last bits alone."""
    return training.model_dump(mode="json", exclude=DECIDES_NO_WEIGHTS | {"threads_per_process"})


class Fit(Config):
    """One model to be trained: fitted on what was known before ``as_of``."""

    name: str
    """choosing, measuring, release or live."""
    as_of: date
    training: TrainingConfig
    files: tuple[ExampleFile, ...]
    examples_hash: str
    """Content hash of the examples: file names are random."""
    num_items: int
    """Largest number of the vocabulary of ``as_of``."""
    history_length: int
    """H; an example has H + 1 places."""
    validation: str = ""
    """npz file of ``validation``; empty: the number of epochs is given or that of ``epochs_of``."""
    validation_hash: str = ""
    """sha256 of that file."""
    epochs_of: str = ""
    """Name of the earlier fit whose best number of epochs is taken."""
    epochs: int = 0
    """Train exactly so many; 0: as the two fields above say."""

    @property
    def key(self) -> str:
        """Equal for runs that must end with equal weights: their checkpoints are interchangeable."""
        parts = self.model_dump(mode="json", exclude={"training", "files", "validation"})
        parts["training"] = deciding_settings(self.training)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


class TrainingSpec(Config):
    """All fits of one launch, in the order in which every process trains them."""

    fits: tuple[Fit, ...]
    checkpoints: Path
    """A folder per fit lies here."""
    work: Path
    """Scratch folder of this launch, seen by all processes: progress and errors."""
    world_size: int
    threads_per_process: int

    def checkpoint_folder(self, fit: Fit) -> Path:
        return self.checkpoints / self.name_of(fit)

    def name_of(self, fit: Fit) -> str:
        """Equal where the weights are, bit for bit."""
        return f"{fit.as_of}-{fit.name}-{fit.key}-{self.world_size}"


class FitResult(Config):
    """What one fit came to; small, the weights are in the checkpoint."""

    name: str
    best_epoch: int
    """The checkpoint's epoch: the one with the best validation NDCG, or the last."""
    checkpoint: Path
    validation_ndcg_at_10: tuple[float, ...] = ()
    """By epoch."""
    seconds: float = 0.0
    num_examples: int = 0
