"""The ranking tower as ONNX: the same logits as torch for any number of users and candidates."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from recsys.config.ranking import Interaction
from recsys.errors import CorruptArtifact, Refused
from recsys.export.histories import RankingUsers
from recsys.export.ranking_file import (
    check_ranking_parity,
    export_ranking,
    export_tower,
    prove_ranking,
)
from recsys.models.ranking import RankingTower
from recsys.models.ranking_fields import CANDIDATE_FIELDS, USER_FIELDS
from recsys.records import RankingManifest
from recsys.scoring.ranker import USERS_PER_CALL, Ranker
from recsys.scoring.ranking_inputs import RankingInputs
from tests.scoring.ranking_worlds import first_of_item, ranking_folder, write_manifest

D = 4


def tower_of(interaction: Interaction) -> RankingTower:
    torch.manual_seed(3)
    return RankingTower(
        interaction=interaction, embedding_dim=D, num_negatives=4, hidden=(8,), num_cross_layers=2,
        cross_rank=32, dropout=0.5, field_dropout=0.5,
    )  # fmt: skip


def inputs(users: int, candidates: int, seed: int = 5) -> RankingInputs:
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return random.normal(size=shape).astype(np.float32)

    return RankingInputs(
        normal(users, len(USER_FIELDS), D),
        normal(users, candidates, len(CANDIDATE_FIELDS), D),
        np.abs(normal(users, candidates, 1)),
    )


@pytest.mark.parametrize("interaction", ["dcn", "dlrm", "fm", "ncf", "linear"])
def test_every_interaction_gives_in_onnx_what_it_gives_in_torch(
    tmp_path: Path, interaction: Interaction
) -> None:
    tower, path = tower_of(interaction), tmp_path / "ranking.onnx"
    export_tower(tower, path, {"model_version": "m1"})
    batches = [inputs(1, 1), inputs(3, 7), inputs(USERS_PER_CALL + 1, 2)]
    report = check_ranking_parity(tower, path, batches, max_difference=1e-5)
    assert (report.users, report.candidates) == (69, 1 + 21 + 2 * 65)
    facts = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert facts["model_version"] == "m1"
    assert facts["user_vectors"].startswith("float32 (B, 5, D): rows of user, history")
    assert str(Path(__file__).resolve().parents[2]).encode() not in path.read_bytes()


def test_a_user_s_logits_do_not_depend_on_who_else_is_in_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "ranking.onnx"
    export_tower(tower_of("dcn"), path, {})
    ranker, whole = Ranker(path), inputs(70, 9)
    together = ranker.logits(whole)
    for user in (0, 63, 64, 69):
        alone = RankingInputs(*(array[user : user + 1] for array in whole))
        np.testing.assert_array_equal(ranker.logits(alone), together[user : user + 1])


def test_other_weights_than_torch_s_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    tower, path = tower_of("dcn"), tmp_path / "ranking.onnx"
    export_tower(tower, path, {})
    with torch.no_grad():
        tower.first_order.bias.add_(0.1)
    with pytest.raises(Refused, match=r"ranking\.onnx: ONNX does not give .* over 5 users"):
        check_ranking_parity(tower, path, [inputs(5, 3)], max_difference=1e-5)
    with pytest.raises(Refused, match="over 0 users"):
        check_ranking_parity(tower, path, [], max_difference=1e-5)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptArtifact, match="does not open as an ONNX model"):
        Ranker(path)


def users(count: int = 70) -> RankingUsers:
    """Each with a history of two items, one and two days old; some are in no vocabulary."""
    return RankingUsers(
        as_of=date(2024, 6, 1),
        user_nums=np.arange(count) % 12,
        history_offsets=np.arange(count + 1) * 2,
        history_nums=(np.arange(2 * count) % 5 + 1).astype(np.int32),
        ages_days=np.tile([2.0, 1.0], count).astype(np.float32),
    )


def files(folder: Path) -> set[str]:
    """What the manifest names, every one of them checked."""
    return set(RankingManifest.verified(folder).files)


def test_the_folder_names_the_tower_once_exported_and_the_proof_once_proven(tmp_path: Path) -> None:
    folder = ranking_folder(tmp_path, [1, 2, 3], exported=False)
    path = export_ranking(folder)
    assert path.name in files(folder)
    assert "parity.json" not in files(folder)
    facts = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert (facts["model_version"], facts["as_of"]) == ("ranks", "2024-06-01")

    report = prove_ranking(folder, users(), max_difference=1e-5)

    assert (report.users, report.candidates) == (70, 70 * 50)
    assert report.onnx_sha256 == RankingManifest.read(folder).files["ranking.onnx"]
    assert "parity.json" in files(folder)
    written = path.stat().st_mtime_ns
    export_ranking(folder)
    assert path.stat().st_mtime_ns == written  # what verifies is kept
    assert "parity.json" in files(folder)


def test_a_damaged_tower_is_made_again_and_has_no_proof_yet(tmp_path: Path) -> None:
    folder = ranking_folder(tmp_path, [1, 2, 3])
    (folder / "ranking.onnx").write_bytes(b"damaged")
    export_ranking(folder)
    assert "ranking.onnx" in files(folder)
    assert "parity.json" not in files(folder)


def test_a_tower_of_other_weights_loses_the_proof_it_had(tmp_path: Path) -> None:
    folder = ranking_folder(tmp_path, [1, 2, 3])
    tower = first_of_item()
    with torch.no_grad():
        tower.first_order.bias.add_(0.1)
    export_tower(tower, folder / "ranking.onnx", {})
    write_manifest(folder, num_items=3)
    with pytest.raises(Refused, match=r"ranking\.onnx: ONNX does not give what torch gives"):
        prove_ranking(folder, users(), max_difference=1e-5)
    assert "parity.json" not in files(folder)


def test_damaged_weights_are_not_exported(tmp_path: Path) -> None:
    folder = ranking_folder(tmp_path, [1, 2, 3], exported=False)
    (folder / "weights.npz").write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact, match=r"weights\.npz is damaged"):
        export_ranking(folder)
