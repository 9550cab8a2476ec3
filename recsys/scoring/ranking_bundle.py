"""A ranking model's folder as scoring sees it: checked against its manifest, its tables memory-mapped."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from recsys.config.ranking import RankingConfig
from recsys.errors import ContractError, CorruptArtifact, MissingInput
from recsys.models.ranking_fields import (
    FIELDS,
    FIELDS_VERSION,
    Attributes,
    Moments,
    moments_of,
)
from recsys.records import ATTRIBUTES_FILE, MANIFEST_FILE, TOWER_FILE, RankingManifest
from recsys.scoring.model_files import open_table, what_to_do
from recsys.scoring.ranker import Ranker
from recsys.scoring.ranking_inputs import RankingInputs, newest_places, ranking_inputs

# Shape suffixes in this file:
#   B users   M candidates of each
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

STEPS = "train, evaluate and export_onnx"
"""The jobs that make a ranking model's folder."""


@dataclass(frozen=True)
class RankingBundle:
    """What stage 2 needs of a model."""

    manifest: RankingManifest
    ranker: Ranker
    tables: Mapping[str, Floats]
    """By field, [rows, embedding_dim]; memory-mapped; row 0 is zeros."""
    attributes: Attributes
    config: RankingConfig

    def moments(
        self,
        user_nums: Ints,
        history_offsets: Ints,
        history_nums: NDArray[np.int32],
        ages_days: Floats,
        as_of: date,
    ) -> Moments:
        """Users at their newest event, as the model knows them: ``ranking_fields.moments_of``.

        Histories are flat, oldest first; ages are days before ``as_of``.
        """
        history_BH, ages_BH = newest_places(
            history_offsets, history_nums, ages_days, self.manifest.history_length
        )
        return moments_of(self.attributes, user_nums, history_BH, ages_BH, as_of)

    def inputs(self, moments: Moments, item_nums_BM: Ints) -> RankingInputs:
        """What the tower is fed. Candidates newer than the model are unknown; 0 is a place that is not filled."""
        return ranking_inputs(
            self.tables, self.attributes, moments, item_nums_BM,
            history_bag=self.config.history_bag, cross_rows=self.config.cross_rows,
        )  # fmt: skip


def checked_ranking(folder: Path) -> RankingManifest:
    """Check a ranking model's files against its manifest, and that it was exported.

    Raises:
        MissingInput: no such model, or it was not exported.
        CorruptArtifact: a file is not what the manifest says, or the code reads its numbers otherwise; the message
            names it and what to do.
    """
    manifest = RankingManifest.verified(folder)
    ranking_config(manifest, folder)
    for name in ranking_files():
        if name != MANIFEST_FILE and name not in manifest.files:
            step = "evaluate and export_onnx" if name == TOWER_FILE else "train"
            raise MissingInput(f"ranking model {folder.name} has no {name}: run {step} first")
    return manifest


def open_ranking(folder: Path, *, check: bool = True) -> RankingBundle:
    """Open a ranking model for scoring; ``check=False`` skips the checksums, as ``open_bundle``'s does.

    Raises:
        MissingInput: as ``checked_ranking``.
        CorruptArtifact: as ``checked_ranking``, or a file that does not open, or shapes that disagree.
    """
    manifest = checked_ranking(folder) if check else RankingManifest.read(folder)
    config, attributes, tables = open_tables(folder, manifest)
    return RankingBundle(manifest, Ranker(folder / TOWER_FILE), tables, attributes, config)


def open_tables(
    folder: Path, manifest: RankingManifest
) -> tuple[RankingConfig, Attributes, dict[str, Floats]]:
    """What a ranking model's folder holds beside the tower.

    Raises:
        CorruptArtifact: a file does not open, or another shape than the manifest and the attributes say.
    """
    config = ranking_config(manifest, folder)
    attributes = _attributes(folder)
    if attributes.num_items != manifest.num_items:
        raise CorruptArtifact(
            f"{folder / ATTRIBUTES_FILE} has {attributes.num_items} items, the manifest {manifest.num_items}: "
            + what_to_do(folder, STEPS)
        )
    rows = attributes.table_rows(config.cross_rows)
    tables = {
        name: open_table(
            folder / _table_file(name), (rows[name], config.embedding_dim), steps=STEPS
        )
        for name in FIELDS
    }
    return config, attributes, tables


def ranking_config(manifest: RankingManifest, folder: Path) -> RankingConfig:
    """The section that the model was trained with, where this version of the code reads its numbers as it does.

    Raises:
        CorruptArtifact: the fields are of another version, or the section is not one of ours.
    """
    if manifest.fields_version != FIELDS_VERSION:
        raise CorruptArtifact(
            f"ranking model {folder.name} has fields of version {manifest.fields_version}, this version of the code "
            f"reads version {FIELDS_VERSION}, so its rows would be taken for others: nothing was written and the live "
            f"release keeps serving; run {STEPS} again, with --set training.when=always where training would not be "
            "due by itself"
        )
    try:
        return RankingConfig.model_validate(manifest.ranking)
    except ValidationError as error:
        raise CorruptArtifact(
            f"{folder / MANIFEST_FILE} has a ranking section that this version of the code does not know "
            f"({error.error_count()} problems): {what_to_do(folder, STEPS)}"
        ) from None


def ranking_files() -> tuple[str, ...]:
    """The files of a folder that scoring opens."""
    return (MANIFEST_FILE, TOWER_FILE, ATTRIBUTES_FILE, *(_table_file(name) for name in FIELDS))


def _attributes(folder: Path) -> Attributes:
    path = folder / ATTRIBUTES_FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Attributes.of(arrays)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, ContractError) as error:
        raise CorruptArtifact(
            f"{path} does not open ({str(error)[:200]}): {what_to_do(folder, STEPS)}"
        ) from None


def _table_file(name: str) -> str:
    return f"{name}.npy"
