"""A trained model as a folder that later jobs read: weights, item vectors, manifest last."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from recsys.config.places import PathsConfig
from recsys.config.sections import TrainingConfig
from recsys.errors import CorruptArtifact, MissingInput
from recsys.models.sequential import SequentialModel
from recsys.records import (
    ITEM_VECTORS_FILE,
    WEIGHTS_FILE,
    ModelManifest,
    RankingManifest,
    sha256_of,
)
from recsys.training import checkpoint
from recsys.training.checkpoint import Checkpoint
from recsys.training.keeper import part_of
from recsys.training.sequential import ITEMS, model_of
from recsys.training.spec import Fit, FitResult

log = structlog.get_logger()

ITEM_TABLE = f"{ITEMS}.weight"


def weights_hash(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """16 hex digits of the sha256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def trained_weights(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Dense weights and whole tables of a checkpoint, named as the model's parameters are."""
    taken = Checkpoint.open(path)
    tables = {f"{name}.weight": taken.table(name) for name in taken.manifest.tables}
    return {**part_of(taken.dense(), "model."), **tables}


def write_model(paths: PathsConfig, fit: Fit, result: FitResult) -> ModelManifest:
    """Make the sequential model's folder from its fit's checkpoint."""
    arrays = trained_weights(result.checkpoint)
    files = {
        WEIGHTS_FILE: lambda path: checkpoint.write_arrays(path, arrays),
        ITEM_VECTORS_FILE: lambda path: write_matrix(path, arrays[ITEM_TABLE]),
    }
    manifest = ModelManifest(
        model_version=weights_hash(arrays),
        as_of=fit.as_of,
        embedding_dim=fit.training.embedding_dim,
        history_length=fit.history_length,
        num_items=fit.num_items,
        epochs=result.best_epoch,
        training=fit.training.model_dump(mode="json"),
    )
    return write_folder(paths, manifest, files)


M = TypeVar("M", ModelManifest, RankingManifest)


def write_folder(paths: PathsConfig, manifest: M, files: Mapping[str, Callable[[Path], None]]) -> M:
    """``paths.models/<model_version>/`` with ``files``, each written by its function; a whole one that is there stays.

    Written beside and renamed: a model's folder is whole or not there. A damaged one is made again.
    """
    target = paths.models / manifest.model_version
    if target.exists():
        try:
            return type(manifest).verified(target)
        except (CorruptArtifact, MissingInput) as problem:
            log.warning("model_made_again", model_version=target.name, problem=str(problem))
    temporary = paths.models / f".{target.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, write in files.items():
        write(temporary / name)
    hashes = {name: sha256_of(temporary / name) for name in files}
    manifest = manifest.model_copy(update={"files": hashes})
    manifest.write(temporary)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(temporary, target)
    return manifest


def write_matrix(path: Path, rows: npt.NDArray[Any]) -> None:
    """A float32 npy file, fsynced."""
    with open(path, "wb") as file:
        np.save(file, rows.astype(np.float32, copy=False), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


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
