"""How large a model is, as train wrote it: the gate comes before the export, and judges a night twice alike."""

from __future__ import annotations

from pathlib import Path

from recsys.errors import CorruptArtifact, MissingInput
from recsys.records import (
    ENCODER_FILE,
    PARITY_FILE,
    TOWER_FILE,
    ModelManifest,
    RankingManifest,
)

EXPORTED = (ENCODER_FILE, TOWER_FILE, PARITY_FILE)
"""Files that come after the gate."""


def bytes_as_trained(models: Path, model_version: str, ranking_version: str = "") -> int:
    """Of the files that the manifests name, without those of the export; 0 where a model is not whole."""
    try:
        named = [(models / model_version, ModelManifest.read(models / model_version).files)]
        if ranking_version:
            folder = models / ranking_version
            named.append((folder, RankingManifest.read(folder).files))
    except (MissingInput, CorruptArtifact):
        return 0
    paths = [folder / name for folder, files in named for name in files if name not in EXPORTED]
    return sum(path.stat().st_size for path in paths) if all(map(Path.is_file, paths)) else 0
