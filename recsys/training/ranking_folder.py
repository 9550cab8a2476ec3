"""A trained ranking model as a folder that scoring reads: the tower, a table for each field, what items are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from recsys.config.places import PathsConfig
from recsys.errors import ContractError
from recsys.records import ANSWERS_FILE, ATTRIBUTES_FILE, WEIGHTS_FILE, RankingManifest
from recsys.training.checkpoint import Arrays, Checkpoint, read_arrays, write_arrays
from recsys.training.keeper import part_of
from recsys.training.model_folder import weights_hash, write_folder, write_matrix
from recsys.training.spec import Fit, FitResult, TrainingSpec, answers_file

TOWER = "model.tower."


def write_ranking_model(
    paths: PathsConfig, spec: TrainingSpec, fit: Fit, result: FitResult
) -> RankingManifest:
    """Make the ranking model's folder from its fit's checkpoint; a whole one that is there stays."""
    assert fit.ranking is not None
    taken = Checkpoint.open(result.checkpoint)
    tower = part_of(taken.dense(), TOWER)
    tables = {name: taken.table(name) for name in taken.manifest.tables}
    files: dict[str, Callable[[Path], None]] = {
        WEIGHTS_FILE: partial(write_arrays, arrays=tower),
        ATTRIBUTES_FILE: partial(_copy, source=Path(fit.attributes)),
        **{f"{name}.npy": partial(write_matrix, rows=rows) for name, rows in tables.items()},
    }
    if fit.measured:
        files[ANSWERS_FILE] = partial(write_arrays, arrays=answers_of(spec, fit))
    manifest = RankingManifest(
        # Numbers mean what the attributes say: the same weights over others are another model.
        model_version=weights_hash({**tower, **tables, **read_arrays(Path(fit.attributes))}),
        as_of=fit.as_of,
        num_items=fit.num_items,
        epochs=result.best_epoch,
        history_length=fit.history_length,
        ranking=fit.ranking.model_dump(mode="json"),
    )
    return write_folder(paths, manifest, files)


def answers_of(spec: TrainingSpec, fit: Fit) -> Arrays:
    """What all ranks said of the measured users, in the order of the users.

    Raises:
        ContractError: a rank left nothing.
    """
    paths = [answers_file(spec.work, fit, rank) for rank in range(spec.world_size)]
    if missing := [path for path in paths if not path.exists()]:
        raise ContractError(f"{missing[0]} is missing: run train again")
    parts = [read_arrays(path) for path in paths]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(joined["user_S"], kind="stable")
    return {name: values[order] for name, values in joined.items()}


def _copy(path: Path, source: Path) -> None:
    shutil.copyfile(source, path)
