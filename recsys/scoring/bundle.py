"""A model's folder as scoring sees it: checked against its manifest before anything is scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import MissingInput
from recsys.records import ENCODER_FILE, ITEM_VECTORS_FILE, ModelManifest, verify_model
from recsys.scoring.encoder import UserEncoder
from recsys.scoring.model_files import open_table


@dataclass(frozen=True)
class ModelBundle:
    """What stage 1 needs of a model."""

    manifest: ModelManifest
    encoder: UserEncoder
    item_vectors: NDArray[np.float32]
    """[num_items + 1, embedding_dim], memory-mapped; row 0 is padding, row = item_num."""


def checked_manifest(folder: Path) -> ModelManifest:
    """Check a model's files against its manifest, and that it was exported.

    Raises:
        MissingInput: no such model, or it was not exported.
        CorruptArtifact: a file is not what the manifest says; the message names it and what to do.
    """
    manifest = verify_model(folder)
    for name in (ENCODER_FILE, ITEM_VECTORS_FILE):
        if name not in manifest.files:
            raise MissingInput(f"model {folder.name} has no {name}: run export_onnx first")
    return manifest


def open_bundle(folder: Path, *, check: bool = True) -> ModelBundle:
    """Open a model for scoring; ``check=False`` skips the checksums (a worker opens what the driver checked).

    Raises:
        MissingInput: as ``checked_manifest``.
        CorruptArtifact: as ``checked_manifest``, or a file that does not open, or widths that disagree.
    """
    if check:
        manifest = checked_manifest(folder)
    else:
        manifest = ModelManifest.read(folder)
    wanted = (manifest.num_items + 1, manifest.embedding_dim)
    vectors = open_table(folder / ITEM_VECTORS_FILE, wanted, steps="train and export_onnx")
    encoder = UserEncoder(folder / ENCODER_FILE, manifest.history_length, manifest.embedding_dim)
    return ModelBundle(manifest, encoder, vectors)
