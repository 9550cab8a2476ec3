"""What the training processes are told: one JSON document, paths and numbers, no objects of ours."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path

from recsys.config.base import Config
from recsys.config.pace import Pace
from recsys.config.ranking import RankingConfig
from recsys.config.sections import TrainingConfig
from recsys.data import ExampleFile
from recsys.training.histories_config import HistoriesConfig

DECIDES_NO_WEIGHTS = {
    "when", "every_days", "launcher", "device", "network_interface", "keep_checkpoints",
    "start_timeout_seconds", "stall_timeout_seconds", "num_processes", "checkpoint_steps", "restarts",
    "table_gib_per_process",
}  # fmt: skip
"""Settings of ``training`` that may differ between two runs with equal weights, at one world size."""


NAMES_NO_WEIGHTS = {
    "files", "validation", "attributes", "measured", "measured_hash", "vocabulary_hash", "code_version",
}  # fmt: skip
"""Fields of a fit that say where something lies, or what is asked after training; hashes stand for the content."""


def deciding_settings(training: TrainingConfig) -> dict[str, object]:
    """The part of the section that decides the weights, to the last bit, at one world size."""
    return training.model_dump(mode="json", exclude=DECIDES_NO_WEIGHTS)


def recipe_settings(training: TrainingConfig) -> dict[str, object]:
    """What decides how good the weights are: threads change their last bits alone."""
    return training.model_dump(mode="json", exclude=DECIDES_NO_WEIGHTS | {"threads_per_process"})


class Fit(Config):
    """One model to be trained: fitted on what was known before ``as_of``."""

    name: str
    """choosing, measuring, release or live; of ranking models MODEL_CUTOFF, MODEL ranking or linear."""
    as_of: date
    training: TrainingConfig
    files: tuple[ExampleFile, ...]
    examples_hash: str
    """Content hash of the examples: file names are random."""
    num_items: int
    """Largest number of the vocabulary of ``as_of``."""
    num_users: int = 0
    """The same of its users."""
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
    ranking: RankingConfig | None = None
    """Of a ranking model; None: this is the sequential one."""
    histories: HistoriesConfig | None = None
    """Of a network over packed histories (``histories``), which is no part of a night; None: this is none."""
    attributes: str = ""
    """npz file of ``attributes``, for a ranking model; of facts about items, for a network over histories."""
    attributes_hash: str = ""
    """sha256 of that file."""
    fields_version: int = 0
    """``ranking_fields.FIELDS_VERSION``, for a ranking model."""
    measured: str = ""
    """npz file of users whom the ranking model is asked about when it is trained; it decides no weights."""
    measured_hash: str = ""
    """sha256 of that file."""
    vocabulary_hash: str = ""
    """Content hash of the vocabulary of ``as_of``, for the checkpoints' manifests."""
    code_version: str = ""
    """Commit of the code that trains, for the same."""

    @property
    def key(self) -> str:
        """Equal for runs that must end with equal weights, at one world size: their checkpoints are interchangeable."""
        parts = self.model_dump(
            mode="json",
            exclude={"training", *NAMES_NO_WEIGHTS},
        )
        parts["training"] = deciding_settings(self.training)
        return _digest(parts)

    @property
    def pace(self) -> Pace:
        """Batch size, rates and epochs of the model that is trained."""
        return self.ranking or self.histories or self.training

    @property
    def config_hash(self) -> str:
        """Of all settings of the section."""
        return _digest(self.pace.model_dump(mode="json"))


def _digest(parts: dict[str, object]) -> str:
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
        """Equal for runs that may take up each other's checkpoints, whatever their number of processes."""
        return f"{fit.as_of}-{fit.name}-{fit.key}"


class FitResult(Config):
    """What one fit came to; small, the weights are in the checkpoint."""

    name: str
    best_epoch: int
    """The checkpoint's epoch: the one with the best ``validation``, or the last."""
    checkpoint: Path
    validation: tuple[float, ...] = ()
    """By epoch: the task's own figure (NDCG@10, of a ranking model the AUC), greater is better."""
    seconds: float = 0.0
    """Of this attempt: a run that goes on from a checkpoint has spent more."""
    num_examples: int = 0
    """That every epoch trained on, over all processes."""


def answers_file(work: Path, fit: Fit, rank: int) -> Path:
    """What a ranking model's rank says of its share of the measured users."""
    return work / f"answers-{fit.name}-{rank}.npz"
