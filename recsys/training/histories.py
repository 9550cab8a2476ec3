"""Train a network over histories, through the engine that trains the nightly model, and ask it for vectors.

Arrays of numpy go in and come out: who asks needs no torch.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self
from zipfile import BadZipFile

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import nn

from recsys.config.sections import TrainingConfig
from recsys.data import num_steps
from recsys.errors import ContractError, CorruptArtifact, MissingInput
from recsys.records import sha256_of
from recsys.training import checkpoint
from recsys.training.histories_config import HistoriesConfig
from recsys.training.histories_files import (
    FlatHistories,
    packed_rows,
    write_facts,
    write_rows,
    write_validation,
)
from recsys.training.histories_task import ATTRIBUTES, ITEMS, network_of, user_vectors
from recsys.training.item_attributes import with_attributes
from recsys.training.launch import launch, world_size
from recsys.training.model_folder import trained_weights
from recsys.training.spec import Fit, TrainingSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = structlog.get_logger()

# Shape suffixes in this file:
#   U users   N catalogue (num_items + 1)   D embedding width
Floats = NDArray[np.float32]

NO_DAY = date(1970, 1, 1)
"""Of a fit whose cut-off is in its examples' ages alone."""

WEIGHTS, SETTINGS = "weights.npz", "network.json"
TABLE, NETWORK = f"{ITEMS}.weight", "network."


@dataclass(frozen=True)
class Processes:
    """How training runs."""

    threads: int = 2
    """1: one process; else a Horovod process for each."""
    spark: SparkSession | None = None
    """Horovod's processes are Spark's where it has a slot for each; else horovodrun starts them."""
    seed: int = 17
    conf: TrainingConfig | None = None
    """Where it is given it says how many processes there are, and who starts them; ``threads`` then say nothing."""

    def training(self, *, quiet_days: float) -> TrainingConfig:
        if self.conf is not None:
            mine = {"seed": self.seed, "quiet_days": quiet_days, "checkpoint_steps": 0}
            return self.conf.model_copy(update=mine)
        launcher = "horovodrun"
        if self.spark is not None and self.spark.sparkContext.defaultParallelism >= self.threads:
            launcher = "spark"
        if self.threads == 1:
            launcher = "local"
        return TrainingConfig.model_validate(
            {"launcher": launcher, "num_processes": self.threads, "seed": self.seed,
             "quiet_days": quiet_days, "checkpoint_steps": 0}
        )  # fmt: skip


@dataclass(frozen=True)
class HistoryModel:
    """What training came to."""

    config: HistoriesConfig
    arrays: dict[str, NDArray[np.float32]]
    """The item table, and the network's weights."""

    @property
    def item_vectors(self) -> Floats:
        """(N, D), row 0 zeros: a score is a user's vector times an item's."""
        return self.arrays[TABLE]

    @cached_property
    def _network(self) -> nn.Module:
        network = network_of(self.config)
        checkpoint.load_model(
            network,
            {n.removeprefix(NETWORK): a for n, a in self.arrays.items() if n.startswith(NETWORK)},
        )
        return network.eval()

    @cached_property
    def _items(self) -> torch.Tensor:
        return torch.from_numpy(self.item_vectors)

    def user_vectors(self, histories: FlatHistories) -> Floats:
        """(U, D), zeros for a user without events; the same bits whoever else is asked about."""
        nums_UH, ages_UH = histories.newest(self.config.max_length)
        found = user_vectors(
            self._network, self._items, torch.from_numpy(nums_UH), torch.from_numpy(ages_UH)
        )
        return found.numpy()

    def save(self, folder: Path) -> None:
        checkpoint.write_arrays(folder / WEIGHTS, self.arrays)
        (folder / SETTINGS).write_text(self.config.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises CorruptArtifact: a file is missing, or is not what ``save`` wrote."""
        try:
            config = HistoriesConfig.model_validate(json.loads((folder / SETTINGS).read_bytes()))
            model = cls(config, checkpoint.read_arrays(folder / WEIGHTS))
            model._network, model._items  # noqa: B018
        except (
            OSError,
            EOFError,
            BadZipFile,
            ValueError,
            KeyError,
            RuntimeError,
            ContractError,
        ) as error:
            raise CorruptArtifact(
                f"{folder} does not hold a network over histories: {str(error)[:400]}; fit it again"
            ) from error
        return model


def train(
    histories: FlatHistories, config: HistoriesConfig, processes: Processes, *, num_items: int, work: Path,
    targets: NDArray[np.int32] | None = None, epochs: int = 0, attributes: csr_array | None = None,
) -> tuple[HistoryModel, int]:  # fmt: skip
    """A model, and the epochs that it trained.

    With ``targets``, what each user took next (0: unknown), the weights are those of the epoch that predicts them best
    of ``config.max_epochs``; else those after ``epochs``, of all by default. Rates fade over ``config.max_epochs`` in
    either case: so many epochs of a fit that knows more are the same way down. A killed call goes on from its last
    checkpoint when it is made again with the same arguments.

    Raises:
        MissingInput: no user has two events, or no target is of a user with a history.
        TrainingFailed: a training process ended.
    """
    rows = packed_rows(histories, width=config.max_length + 1, seed=processes.seed)
    if not len(rows):
        raise MissingInput(
            f"none of {len(histories)} users has two known events: nothing can be learned about what comes next; "
            "leave networks over histories out of this shop's recommenders"
        )
    training = processes.training(quiet_days=config.quiet_days)
    size = world_size(training)
    batch_size = config.rounded_batch_size(size)
    if batch_size != config.global_batch_size:
        log.info(
            "batch_rounded", network=config.network, wanted=config.global_batch_size, rows=batch_size,
            num_processes=size,
        )  # fmt: skip
    steps = num_steps(len(rows), batch_size)
    config = config.model_copy(
        update={
            "global_batch_size": batch_size,
            "fading_steps": steps * config.max_epochs,
            "attributes": attributes is not None,
        }
    )
    (work / "launch").mkdir(parents=True, exist_ok=True)
    file, facts, validation = work / "rows.parquet", work / "facts.npz", work / "validation.npz"
    example_file = write_rows(file, rows)
    write_facts(facts, histories, attributes, num_items=num_items)
    fit = Fit(
        name=config.network, as_of=NO_DAY, training=training, files=(example_file,), histories=config,
        examples_hash=sha256_of(file), attributes=str(facts), attributes_hash=sha256_of(facts),
        num_items=num_items, history_length=config.max_length, epochs=epochs or config.max_epochs,
    )  # fmt: skip
    if targets is not None:
        if not write_validation(
            validation, histories, targets, length=config.max_length, seed=processes.seed
        ):
            raise MissingInput("no user with a known event has a target: epochs cannot be chosen")
        chosen = {"validation": str(validation), "validation_hash": sha256_of(validation)}
        fit = fit.model_copy(update=chosen)
    spec = TrainingSpec(
        fits=(fit,), checkpoints=work / "checkpoints", work=work / "launch", world_size=size,
        threads_per_process=training.threads_per_process,
    )  # fmt: skip
    [result] = launch(spec, training, processes.spark)
    arrays = trained_weights(result.checkpoint)
    if attributes is not None:
        own, of_attributes = arrays[TABLE], arrays.pop(f"{ATTRIBUTES}.weight")
        arrays[TABLE] = with_attributes(own, of_attributes, attributes)
    shutil.rmtree(spec.checkpoint_folder(fit))
    log.info(
        "network_trained", network=config.network, rows=len(rows), epochs=result.best_epoch,
        seconds=round(result.seconds, 1), validation=[round(value, 5) for value in result.validation],
    )  # fmt: skip
    return HistoryModel(config, arrays), result.best_epoch
