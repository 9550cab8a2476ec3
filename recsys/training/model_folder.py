"""A trained model as a folder that later jobs read: weights, item vectors, manifest last."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from recsys.config.places import PathsConfig
from recsys.config.sections import TrainingConfig
from recsys.errors import CorruptArtifact, MissingInput
from recsys.models import SequentialModel
from recsys.records import (
    ITEM_VECTORS_FILE,
    WEIGHTS_FILE,
    ModelManifest,
    sha256_of,
    verify_model,
)
from recsys.training import checkpoint
from recsys.training.objective import model_of
from recsys.training.spec import Fit, FitResult

log = structlog.get_logger()

ITEM_TABLE = "items.weight"


def weights_hash(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """16 hex digits of the sha256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def write_model(paths: PathsConfig, fit: Fit, result: FitResult) -> ModelManifest:
    """Make ``paths.models/<model_version>/`` from a fit's checkpoint; a whole one that is there stays.

    Written beside and renamed: a model's folder is whole or not there. A damaged one is made again.
    """
    arrays = checkpoint.read_arrays(result.checkpoint / "model.npz")
    version = weights_hash(arrays)
    target = paths.models / version
    if target.exists():
        try:
            return verify_model(target)
        except (CorruptArtifact, MissingInput) as problem:
            log.warning("model_made_again", model_version=version, problem=str(problem))
    temporary = paths.models / f".{version}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    checkpoint.write_arrays(temporary / WEIGHTS_FILE, arrays)
    with open(temporary / ITEM_VECTORS_FILE, "wb") as file:
        np.save(file, arrays[ITEM_TABLE].astype(np.float32), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    manifest = ModelManifest(
        model_version=version,
        as_of=fit.as_of,
        embedding_dim=fit.training.embedding_dim,
        history_length=fit.history_length,
        num_items=fit.num_items,
        epochs=result.best_epoch,
        training=fit.training.model_dump(mode="json"),
        files={name: sha256_of(temporary / name) for name in (WEIGHTS_FILE, ITEM_VECTORS_FILE)},
    )
    manifest.write(temporary)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(temporary, target)
    return manifest


def load_model(folder: Path) -> tuple[SequentialModel, ModelManifest]:
    """The model in evaluation mode, its weights checked against the manifest.

    Raises:
        MissingInput: no such folder.
        CorruptArtifact: the weights are not those that the manifest names.
    """
    manifest = ModelManifest.read(folder)
    path = folder / WEIGHTS_FILE
    if not path.exists():
        raise MissingInput(f"no {path}: run train again")
    arrays = checkpoint.read_arrays(path)
    if (found := weights_hash(arrays)) != manifest.model_version:
        raise CorruptArtifact(
            f"{path} holds the weights of model {found}, the manifest says {manifest.model_version}: "
            "run train again"
        )
    config = TrainingConfig.model_validate(manifest.training)
    model = model_of(config, num_items=manifest.num_items, history_length=manifest.history_length)
    checkpoint.load_model(model, arrays)
    return model.eval(), manifest
