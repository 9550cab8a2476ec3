"""A trained ranking model as a folder that scoring reads: the tower, a table for each field, what items are.

What models say of the users that they are asked about lies beside the records, a file for each night and role.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from recsys.config.places import PathsConfig
from recsys.errors import ContractError
from recsys.models.calibration import Calibration, calibrated
from recsys.models.ranking_fields import FIELDS_VERSION, events_known
from recsys.records import ATTRIBUTES_FILE, WEIGHTS_FILE, Answers, RankingManifest, sha256_of
from recsys.training.checkpoint import Arrays, Checkpoint, read_arrays, write_arrays
from recsys.training.keeper import part_of
from recsys.training.model_folder import weights_hash, write_folder, write_matrix
from recsys.training.spec import Fit, FitResult, TrainingSpec, answers_file

TOWER = "model.tower."


def write_ranking_model(
    paths: PathsConfig, fit: Fit, result: FitResult, calibration: Calibration
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
    # Numbers mean what the attributes and the version say: the same weights over others are another model.
    meaning = {
        **read_arrays(Path(fit.attributes)),
        "fields_version": np.array(FIELDS_VERSION),
        "calibration": np.array(calibration),
    }
    manifest = RankingManifest(
        model_version=weights_hash({**tower, **tables, **meaning}),
        as_of=fit.as_of,
        num_items=fit.num_items,
        epochs=result.best_epoch,
        history_length=events_known(fit.history_length),
        fields_version=FIELDS_VERSION,
        calibration_intercept=calibration.intercept,
        calibration_slope=calibration.slope,
        ranking=fit.ranking.model_dump(mode="json"),
    )
    return write_folder(paths, manifest, files)


def calibration_of(spec: TrainingSpec, choosing: Fit) -> Calibration:
    """What makes probabilities of a model's logits, learned from its choosing fit's answers on the choosing window."""
    answers = answers_of(spec, choosing)
    return calibrated(answers["logits_S"].astype(np.float64), answers["taken_S"])


def write_answers(
    paths: PathsConfig, spec: TrainingSpec, fit: Fit, run_date: date, role: str
) -> Answers:
    """Put what the ranks of a fit said into one file of the night, whole or not at all."""
    name = Answers.name_of(run_date, role)
    paths.models.mkdir(parents=True, exist_ok=True)
    temporary = paths.models / f".{name}.{os.getpid()}"
    write_arrays(temporary, answers_of(spec, fit))
    os.replace(temporary, paths.models / name)
    return Answers(file=name, sha256=sha256_of(paths.models / name), asked=fit.measured_hash)


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
