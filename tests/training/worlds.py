"""Planted worlds as training examples on disk: what a user takes next is built in."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from recsys.config.sections import TrainingConfig
from recsys.data import ExampleFile
from recsys.training.checkpoint import size_and_sha256
from recsys.training.model_folder import trained_weights, weights_hash
from recsys.training.spec import Fit, FitResult, TrainingSpec
from recsys.training.validation import ValidationUsers, write_users

AS_OF = date(2024, 6, 1)
GROUPS, PER_GROUP, LENGTH = 6, 5, 12
NUM_ITEMS = GROUPS * PER_GROUP


def cyclic_histories(num_users: int, *, length: int = LENGTH, seed: int = 3) -> NDArray[np.int32]:
    """(users, length) item numbers: each next item is of the next group of the cycle, any of its items."""
    random = np.random.default_rng(seed)
    group = (random.integers(0, GROUPS, (num_users, 1)) + np.arange(length)) % GROUPS
    return (1 + group * PER_GROUP + random.integers(0, PER_GROUP, group.shape)).astype(np.int32)


def write_file(
    path: Path,
    item_nums: NDArray[np.int32],
    *,
    first_id: int = 0,
    row_group_rows: int = 16,
    targets: int = 1,
) -> ExampleFile:
    """One Parquet file in the packed form of ``training_examples``, an event a day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, width = item_nums.shape
    ages = np.broadcast_to(np.arange(width, 0, -1, dtype="<f4"), item_nums.shape)
    flags = (item_nums != 0).astype("u1") * targets
    flags[:, 0] = 0
    table = pa.table(
        {
            "example_id": pa.array(first_id + np.arange(rows)),
            "user_num": pa.array((first_id + np.arange(rows) + 1).astype(np.int32)),
            "item_nums": pa.array([row.astype("<i4").tobytes() for row in item_nums], pa.binary()),
            "ages_days": pa.array([row.tobytes() for row in ages], pa.binary()),
            "targets": pa.array([row.tobytes() for row in flags], pa.binary()),
        }
    )
    pq.write_table(table, path, row_group_size=row_group_rows)
    return ExampleFile(uri=str(path), size_bytes=path.stat().st_size, first_example_id=first_id)


def validation_users(item_nums: NDArray[np.int32]) -> ValidationUsers:
    """Everything but the newest event is history, the newest is the target."""
    length = item_nums.shape[1] - 1
    ages = np.broadcast_to(np.arange(length, 0, -1, dtype=np.float32), (len(item_nums), length))
    return ValidationUsers(
        torch.from_numpy(item_nums[:, :-1].astype(np.int64)),
        torch.from_numpy(ages.copy()),
        torch.arange(len(item_nums)),
        torch.from_numpy(item_nums[:, -1].astype(np.int64)),
    )


def tiny_training(**changes: object) -> TrainingConfig:
    """Settings that learn the cyclic world in seconds."""
    settings: dict[str, object] = {
        "embedding_dim": 16, "num_blocks": 1, "num_heads": 2, "dropout": 0.1, "max_epochs": 3, "patience": 3,
        "global_batch_size": 32, "num_negatives": 20, "learning_rate": 1e-2, "warmup_steps": 2,
        "quiet_days": 0.0, "num_processes": 2, "launcher": "local", "stall_timeout_seconds": 20,
        "start_timeout_seconds": 60,
    }  # fmt: skip
    return TrainingConfig.model_validate(settings | changes)


def world_spec(
    root: Path, *, training: TrainingConfig | None = None, num_users: int = 200, name: str = "run"
) -> TrainingSpec:
    """A choosing and a release fit on the cyclic world, below ``root``."""
    training = training or tiny_training()
    histories = cyclic_histories(num_users)
    file = write_file(root / "examples" / "part-0.parquet", histories)
    validation = root / "validation.npz"
    write_users(validation, validation_users(cyclic_histories(40, seed=9)))
    choosing = Fit(
        name="choosing",
        as_of=AS_OF,
        training=training,
        files=(file,),
        examples_hash="cyclic",
        num_items=NUM_ITEMS,
        history_length=LENGTH - 1,
        validation=str(validation),
        validation_hash=size_and_sha256(validation)[1],
    )
    release = choosing.model_copy(
        update={"name": "release", "validation": "", "epochs_of": "choosing"}
    )
    work = root / name / "work"
    work.mkdir(parents=True, exist_ok=True)
    return TrainingSpec(
        fits=(choosing, release),
        checkpoints=root / name / "checkpoints",
        work=work,
        world_size=1 if training.launcher == "local" else training.num_processes,
        threads_per_process=1,
    )


def hashes(results: list[FitResult]) -> dict[str, str]:
    """Of the weights that each fit came to, tables and dense."""
    return {r.name: weights_hash(trained_weights(r.checkpoint)) for r in results}
