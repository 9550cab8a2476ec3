"""Checkpoints that survive kill -9: a new folder each, fsynced, a manifest last.

Only what a manifest names, with sizes and checksums that verify, exists. Arrays are npz files read with
``allow_pickle=False``: nothing is unpickled. Random generators are made anew each epoch from (seed, epoch,
rank), so an epoch's end needs no generator state.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import Optimizer

from recsys.config.base import Config
from recsys.errors import CorruptArtifact
from recsys.records import sha256_of, write_atomically

log = structlog.get_logger()

MANIFEST = "manifest.json"
Arrays = dict[str, npt.NDArray[Any]]


class CheckpointManifest(Config):
    """What a checkpoint holds and what comes next."""

    key: str
    """Of the fit: a checkpoint of another one is never taken up."""
    world_size: int
    epoch: int
    """Epochs done."""
    step: int
    """Steps done."""
    validation_ndcg_at_10: tuple[float, ...]
    """By epoch, empty without validation."""
    files: dict[str, tuple[int, str]]
    """File name -> (bytes, sha256)."""


def model_arrays(model: nn.Module) -> Arrays:
    return {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}


def optimizer_arrays(optimizer: Optimizer) -> Arrays:
    """The state of each parameter by its number; learning rates are functions of the step."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value).detach().cpu().numpy()
        for number, values in state.items()
        for name, value in values.items()
    }


def load_optimizer(optimizer: Optimizer, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in arrays.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = torch.from_numpy(np.array(value))
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def load_model(model: nn.Module, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    model.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    )


def save(folder: Path, arrays: Mapping[str, Arrays], manifest: CheckpointManifest) -> Path:
    """Write ``epoch-NNN-M`` below ``folder``; M grows where an earlier attempt left a folder behind."""
    attempt = 0
    while (target := folder / f"epoch-{manifest.epoch:03}-{attempt}").exists():
        attempt += 1
    target.mkdir(parents=True)
    for name, content in arrays.items():
        write_arrays(target / f"{name}.npz", content)
    files = {
        f"{name}.npz": (size, digest)
        for name in arrays
        for size, digest in [size_and_sha256(target / f"{name}.npz")]
    }
    complete = manifest.model_copy(update={"files": files})
    write_atomically(target / MANIFEST, complete.model_dump_json(indent=1).encode())
    return target


def newest(folder: Path, *, key: str, world_size: int) -> Path | None:
    """The newest checkpoint that verifies; what does not is named in the log and passed over."""
    for candidate in sorted(_epochs(folder), reverse=True):
        try:
            manifest = read_manifest(candidate)
            verify(candidate, manifest)
            if (manifest.key, manifest.world_size) != (key, world_size):
                raise CorruptArtifact(
                    f"checkpoint {candidate} belongs to another run ({manifest.key})"
                )
        except CorruptArtifact as error:
            log.warning("checkpoint_passed_over", reason=str(error))
        else:
            return candidate
    return None


def of_epoch(folder: Path, epoch: int) -> Path | None:
    """The verifying checkpoint of one epoch."""
    for candidate in _epochs(folder):
        if candidate.name.startswith(f"epoch-{epoch:03}-"):
            try:
                verify(candidate, read_manifest(candidate))
            except CorruptArtifact:
                continue
            return candidate
    return None


def read_manifest(checkpoint: Path) -> CheckpointManifest:
    """Raises CorruptArtifact where there is none, or none that can be read."""
    try:
        return CheckpointManifest.model_validate_json((checkpoint / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CorruptArtifact(
            f"checkpoint {checkpoint} has no manifest: it was not finished"
        ) from None
    except ValidationError:
        raise CorruptArtifact(f"checkpoint {checkpoint} has a damaged manifest") from None


def verify(checkpoint: Path, manifest: CheckpointManifest) -> None:
    """Raises CorruptArtifact naming the first file that is missing, short or changed."""
    for name, (size, digest) in manifest.files.items():
        path = checkpoint / name
        found = size_and_sha256(path) if path.is_file() else None
        if found != (size, digest):
            what = (
                "is missing" if found is None else f"has {found[0]} bytes, sha256 {found[1][:12]}"
            )
            raise CorruptArtifact(
                f"checkpoint file {path} {what}; its manifest says {size} and {digest[:12]}"
            )


def prune(folder: Path, *, keep_newest: int, keep_epoch: int) -> None:
    """Delete old checkpoints, never the newest ``keep_newest`` whole ones nor that of ``keep_epoch``."""
    kept = 0
    for candidate in sorted(_epochs(folder), reverse=True):
        if not (candidate / MANIFEST).exists():
            shutil.rmtree(candidate)  # an attempt that was killed; a newer one is complete
        elif kept < keep_newest:
            kept += 1
        elif not candidate.name.startswith(f"epoch-{keep_epoch:03}-"):
            shutil.rmtree(candidate)


def remove(folder: Path) -> None:
    """Take a fit's checkpoints away: first their name, at once, so that no fit resumes from what is left of them."""
    doomed = folder.with_name(f".removing-{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    if folder.exists():
        os.replace(folder, doomed)
        shutil.rmtree(doomed)


def read_arrays(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def write_arrays(path: Path, arrays: Arrays) -> None:
    """An npz file, fsynced; the same arrays give the same bytes."""
    with open(path, "wb") as file:
        np.savez(file, **dict(sorted(arrays.items())))
        file.flush()
        os.fsync(file.fileno())


def size_and_sha256(path: Path) -> tuple[int, str]:
    return path.stat().st_size, sha256_of(path)


def _epochs(folder: Path) -> list[Path]:
    return list(folder.glob("epoch-*")) if folder.exists() else []
