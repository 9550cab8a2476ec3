"""The ranking tower as ONNX, and the proof that it gives what torch gives. Vectors in, never item numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path

import numpy as np
import onnx
import structlog
import torch

from recsys.config import RecsysConfig
from recsys.config.base import Config
from recsys.errors import CorruptArtifact, Refused
from recsys.export.histories import RankingUsers, read_ranking_users
from recsys.export.onnx_file import (
    OPSET,
    check_graph,
    forget_files,
    forget_the_machine,
    quiet_exporter,
    record_file,
)
from recsys.failpoints import failpoint
from recsys.lake import Lake
from recsys.models.ranking import RankingTower
from recsys.models.ranking_fields import CANDIDATE_FIELDS, USER_FIELDS
from recsys.records import (
    PARITY_FILE,
    TOWER_FILE,
    WEIGHTS_FILE,
    RankingManifest,
    sha256_of,
    write_atomically,
)
from recsys.scoring.ranker import INPUTS, OUTPUT, USERS_PER_CALL, Ranker
from recsys.scoring.ranking_bundle import RankingBundle, open_ranking, ranking_config
from recsys.scoring.ranking_inputs import RankingInputs
from recsys.training.checkpoint import load_model, read_arrays
from recsys.training.ranking import tower_of

log = structlog.get_logger()

PARITY_CANDIDATES = 50
"""Items that the tower is asked about for each user."""
PARITY_SEED = 17

INPUT_CONTRACT = {
    "user_vectors": f"float32 (B, {len(USER_FIELDS)}, D): rows of {', '.join(USER_FIELDS)}; zeros where unknown",
    "candidate_vectors": f"float32 (B, M, {len(CANDIDATE_FIELDS)}, D): rows of {', '.join(CANDIDATE_FIELDS)}",
    "candidate_numbers": "float32 (B, M, 1): log1p of the item's events in the histories that training read",
    "logits": "float32 (B, M): 1 / (1 + exp(-(calibration_intercept + calibration_slope * logit))), both of the "
    "manifest, is a probability",
}


class RankingParity(Config):
    """What was compared, and the worst that was found."""

    users: int
    candidates: int
    max_difference: float
    """Largest difference of a logit, over the largest logit of the same user, or over 1."""
    onnx_sha256: str


def export_ranking(folder: Path) -> Path:
    """Write ``ranking.onnx`` into a ranking model's folder and name it in the manifest; returns its path.

    As ``export_model`` does it: a file that is there and verifies is kept, the manifest comes last.

    Raises:
        MissingInput: no such model.
        CorruptArtifact: a file of the folder is not what its manifest says.
        ContractError: the graph is not what scoring expects.
    """
    path = folder / TOWER_FILE
    manifest = RankingManifest.read(folder)
    if TOWER_FILE in manifest.files:
        # A damaged file is made again: all that it holds is in the weights.
        with contextlib.suppress(CorruptArtifact):
            RankingManifest.verified(folder)
            return path
    # The report is of the file that was.
    manifest = forget_files(folder, manifest, TOWER_FILE, PARITY_FILE)
    facts = {"model_version": manifest.model_version, "as_of": str(manifest.as_of)}
    export_tower(trained_tower(folder), path, facts)
    failpoint("export_onnx:ranking_written")
    record_file(folder, manifest, path.name)
    log.info("ranking_exported", model_version=manifest.model_version, opset=OPSET)
    return path


def trained_tower(folder: Path) -> RankingTower:
    """The tower in evaluation mode; every file that the manifest names is checked first.

    Raises:
        MissingInput: no such model.
        CorruptArtifact: a file, or the manifest itself, is not what this version of the code reads.
    """
    manifest = RankingManifest.verified(folder)
    tower = tower_of(ranking_config(manifest, folder))
    load_model(tower, read_arrays(folder / WEIGHTS_FILE))
    return tower.eval()


def export_release_ranking(
    lake: Lake, config: RecsysConfig, run_date: date, folder: Path
) -> RankingParity:
    """``export_ranking``, then ``prove_ranking`` on the histories of ``run_date``."""
    export_ranking(folder)
    users = read_ranking_users(lake, as_of=run_date, count=config.export.parity_users)
    report = prove_ranking(folder, users, max_difference=config.export.max_relative_difference)
    log.info("ranking_parity", users=report.users, max_difference=report.max_difference)
    return report


def prove_ranking(folder: Path, users: RankingUsers, *, max_difference: float) -> RankingParity:
    """``check_ranking_parity`` on users' histories; where it holds the manifest names its report, last.

    That lets the model re-rank what is published.

    Raises:
        Refused: the logits differ by more than ``max_difference``.
        CorruptArtifact: a file of the model is not what its manifest says.
    """
    manifest = forget_files(folder, RankingManifest.read(folder), PARITY_FILE)
    report = check_ranking_parity(
        trained_tower(folder), folder / TOWER_FILE, _asked(open_ranking(folder), users),
        max_difference=max_difference,
    )  # fmt: skip
    write_atomically(folder / PARITY_FILE, report.model_dump_json(indent=1).encode())
    record_file(folder, manifest, PARITY_FILE)
    return report


def _asked(bundle: RankingBundle, users: RankingUsers) -> Iterator[RankingInputs]:
    """What the tower is fed for each user and items drawn from the whole catalogue."""
    draw = np.random.default_rng(PARITY_SEED)
    moments = bundle.moments(
        users.user_nums, users.history_offsets, users.history_nums, users.ages_days, users.as_of
    )
    for start in range(0, len(users.user_nums), USERS_PER_CALL):
        some = moments.at(slice(start, start + USERS_PER_CALL))
        shape = (len(some.user_num_B), PARITY_CANDIDATES)
        yield bundle.inputs(some, draw.integers(1, bundle.attributes.num_items + 1, shape))


def export_tower(tower: RankingTower, path: Path, facts: Mapping[str, str]) -> None:
    """Write the tower, as it is without dropout, with ``facts`` (model_version, as_of …) beside its contract.

    Raises:
        ContractError: the graph is not what scoring expects.
    """
    model = _graph(tower)
    onnx.helper.set_model_props(model, {**facts, **INPUT_CONTRACT})
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString(deterministic=True))


def check_ranking_parity(
    tower: RankingTower, path: Path, batches: Iterable[RankingInputs], *, max_difference: float
) -> RankingParity:
    """Compare torch with ONNX Runtime, through the class that scores.

    Raises:
        Refused: they differ by more than ``max_difference``.
    """
    ranker, users, candidates, worst = Ranker(path), 0, 0, 0.0
    tower = tower.eval()
    for inputs in batches:
        with torch.no_grad():
            torch_BM = tower(*(torch.from_numpy(array) for array in inputs)).numpy()
        onnx_BM = ranker.logits(inputs)
        largest_B1 = np.abs(torch_BM).max(axis=1, keepdims=True, initial=1.0)
        difference_BM = np.abs(torch_BM - onnx_BM) / largest_B1
        worst = max(worst, float(np.nan_to_num(difference_BM, nan=np.inf).max(initial=0.0)))
        users, candidates = users + len(onnx_BM), candidates + onnx_BM.size
    report = RankingParity(
        users=users, candidates=candidates, max_difference=worst, onnx_sha256=sha256_of(path)
    )
    if not users or worst > max_difference:
        raise Refused(
            f"{path}: ONNX does not give what torch gives: difference {worst:.3g} over {users} users, allowed "
            f"{max_difference:g}; the model is not published; run export_onnx again, or train again"
        )
    return report


def _graph(tower: RankingTower) -> onnx.ModelProto:
    """B and M dynamic, nothing outside the file."""
    width = tower.embedding_dim
    example = (
        torch.randn(2, len(USER_FIELDS), width),
        torch.randn(2, 3, len(CANDIDATE_FIELDS), width),
        torch.rand(2, 3, 1),
    )
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    candidates = torch.export.Dim("candidates", min=1, max=1 << 20)
    was_training = tower.training
    tower.eval()
    try:
        with quiet_exporter():
            program = torch.onnx.export(
                tower,
                example,
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamo=True,
                dynamic_shapes=({0: batch}, {0: batch, 1: candidates}, {0: batch, 1: candidates}),
                opset_version=OPSET,
                external_data=False,
                optimize=False,
                verbose=False,
            )
    finally:
        tower.train(was_training)
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    forget_the_machine(model)
    _check_graph(model, width)
    return model


def _check_graph(model: onnx.ModelProto, width: int) -> None:
    """Raises ContractError naming what differs from what scoring feeds and reads."""
    wanted = {
        "user_vectors": ["batch", len(USER_FIELDS), width],
        "candidate_vectors": ["batch", "candidates", len(CANDIDATE_FIELDS), width],
        "candidate_numbers": ["batch", "candidates", 1],
        OUTPUT: ["batch", "candidates"],
    }
    check_graph(model, wanted)
