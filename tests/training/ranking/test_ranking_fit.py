"""A ranking model through the training loop: on any number of ranks, killed and not, and the folder it becomes."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from recsys.config.places import PathsConfig
from recsys.config.ranking import RankingConfig
from recsys.embeddings import LocalComm
from recsys.errors import CorruptArtifact
from recsys.models.calibration import Calibration
from recsys.models.ranking_fields import FIELDS, FIELDS_VERSION, Attributes
from recsys.records import Answers, RankingManifest
from recsys.training.checkpoint import Arrays, read_arrays, size_and_sha256, write_arrays
from recsys.training.launch import TrainingFailed, launch
from recsys.training.ranking_folder import calibration_of, write_answers, write_ranking_model
from recsys.training.spec import FitResult, TrainingSpec
from recsys.training.validation import ValidationUsers, write_users
from recsys.training.worker import run_rank
from tests.embeddings.rank_threads import run_ranks
from tests.training.ranking.test_ranking_task import plain_attributes
from tests.training.worlds import (
    LENGTH,
    NUM_ITEMS,
    cyclic_histories,
    tiny_training,
    validation_users,
    world_spec,
)

# petastorm's own; catch_warnings, which the loader silences them by, knows no threads.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("FutureWarning", "DeprecationWarning", "ResourceWarning")
]


NUM_USERS = 200
NIGHT = date(2024, 6, 29)


def ranking_spec(root: Path, *, name: str = "run", **training: object) -> TrainingSpec:
    """One ranking fit with validation and measured users, on the cyclic world."""
    spec = world_spec(root, training=tiny_training(**training), num_users=NUM_USERS, name=name)
    attributes = root / "attributes.npz"
    nums = cyclic_histories(NUM_USERS).astype(np.int64)
    write_arrays(attributes, plain_attributes(nums, NUM_ITEMS).arrays())
    users = validation_users(cyclic_histories(40, seed=9))
    write_users(root / "users.npz", ValidationUsers(*users[:4], users.user_T + 1))
    config = RankingConfig(
        enabled=True, embedding_dim=8, hidden=(16,), cross_rows=1024, field_dropout=0.0,
        max_epochs=3, patience=3, global_batch_size=30,
    )  # fmt: skip
    fit = spec.fits[0].model_copy(
        update={
            "name": "ranking_measuring", "ranking": config, "num_users": NUM_USERS,
            "attributes": str(attributes), "attributes_hash": size_and_sha256(attributes)[1],
            "validation": str(root / "users.npz"), "measured": str(root / "users.npz"),
        }
    )  # fmt: skip
    return spec.model_copy(update={"fits": (fit,)})


def folder_of(
    spec: TrainingSpec, result: FitResult, root: Path, calibration: Calibration | None = None
) -> tuple[Path, RankingManifest]:
    paths = PathsConfig(root=str(root))
    learned = calibration or calibration_of(spec, spec.fits[0])
    manifest = write_ranking_model(paths, spec.fits[0], result, learned)
    return paths.models / manifest.model_version, manifest


def answers_in(spec: TrainingSpec, root: Path, night: date = NIGHT) -> tuple[Answers, Arrays]:
    paths = PathsConfig(root=str(root))
    said = write_answers(paths, spec, spec.fits[0], night, "measuring")
    return said, read_arrays(said.verified(paths))


def test_it_learns_what_follows_an_item_and_its_folder_holds_what_scoring_needs(
    tmp_path: Path,
) -> None:
    spec = ranking_spec(tmp_path)
    [result] = run_rank(spec, LocalComm())
    assert result.validation[-1] > 0.75  # the last item and the candidate, crossed, tell the groups
    folder, manifest = folder_of(spec, result, tmp_path / "var")
    assert RankingManifest.verified(folder) == manifest
    attributes = Attributes.of(read_arrays(folder / "attributes.npz"))
    rows = attributes.table_rows(1024)
    assert {name: len(np.load(folder / f"{name}.npy")) for name in FIELDS} == rows
    assert not np.load(folder / "item.npy")[0].any()
    assert manifest.history_length == (LENGTH - 1) // 2
    assert (manifest.fields_version, manifest.calibration_slope > 0) == (FIELDS_VERSION, True)
    said, answers = answers_in(spec, tmp_path / "var")
    assert said.file == "answers-2024-06-29-measuring.npz"
    assert set(answers["user_S"]) == set(range(40))
    assert answers["taken_S"].sum() == 40
    assert (np.diff(answers["user_S"]) >= 0).all()
    (folder / "item.npy").write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact, match=r"item\.npy is damaged"):
        RankingManifest.verified(folder)
    assert folder_of(spec, result, tmp_path / "var")[1] == manifest  # made again
    assert RankingManifest.verified(folder) == manifest


def test_ranks_share_the_work_and_leave_the_same_answers(tmp_path: Path) -> None:
    whole = ranking_spec(tmp_path, name="whole")
    [alone] = run_rank(whole, LocalComm())
    _, one = answers_in(whole, tmp_path / "alone")
    # A rank trains on its own examples: other batches, so other weights, and the same users to answer.
    shared = ranking_spec(tmp_path, name="shared").model_copy(update={"world_size": 2})
    results = run_ranks(2, lambda comm: run_rank(shared, comm))
    assert results[0][0].validation == results[1][0].validation
    _, answers = answers_in(shared, tmp_path / "var")
    for name in ("user_S", "taken_S", "item_nums_S"):
        np.testing.assert_array_equal(answers[name], one[name])
    assert results[0][0].validation[-1] == pytest.approx(alone.validation[-1], abs=0.1)


def test_answers_are_the_night_s_though_the_weights_were_there_before(tmp_path: Path) -> None:
    spec = ranking_spec(tmp_path)
    [result] = run_rank(spec, LocalComm())
    folder, _ = folder_of(spec, result, tmp_path / "var")
    first, before = answers_in(spec, tmp_path / "var")
    # Events came late: of the measured users one is another, and nothing else changed.
    users = validation_users(cyclic_histories(40, seed=9)[1:])
    write_users(tmp_path / "late.npz", ValidationUsers(*users[:4], users.user_T + 2))
    changes = {"measured": str(tmp_path / "late.npz"), "measured_hash": "late"}
    later = spec.model_copy(update={"fits": (spec.fits[0].model_copy(update=changes),)})
    assert later.fits[0].key == spec.fits[0].key

    [again] = run_rank(later, LocalComm())

    learned = calibration_of(spec, spec.fits[0])
    assert again.checkpoint == result.checkpoint
    assert folder_of(later, again, tmp_path / "var", manifest_of(folder))[0] == folder
    second, after = answers_in(later, tmp_path / "var", NIGHT + timedelta(days=1))
    assert (second.asked, first.file != second.file) == ("late", True)
    assert len(set(before["user_S"])) == 40 and len(set(after["user_S"])) == 39
    assert learned != manifest_of(folder), "the fit's answers are those of the other users now"


def manifest_of(folder: Path) -> Calibration:
    manifest = RankingManifest.read(folder)
    return Calibration(manifest.calibration_intercept, manifest.calibration_slope)


def test_where_files_lie_decides_no_weights_and_what_numbers_mean_does(tmp_path: Path) -> None:
    [fit] = ranking_spec(tmp_path).fits
    elsewhere = fit.model_copy(
        update={"attributes": "/elsewhere/a.npz", "measured": "/m.npz", "measured_hash": "m"}
    )
    assert elsewhere.key == fit.key
    others = ({"attributes_hash": "7"}, {"fields_version": 7}, {"examples_hash": "7"})
    assert len({fit.key, *(fit.model_copy(update=other).key for other in others)}) == 4


def test_the_same_weights_read_otherwise_are_another_model(tmp_path: Path) -> None:
    spec = ranking_spec(tmp_path)
    [result] = run_rank(spec, LocalComm())
    versions = {
        folder_of(spec, result, tmp_path / "var", calibration)[1].model_version
        for calibration in (Calibration(), Calibration(0.1, 1.0), Calibration())
    }
    with patch("recsys.training.ranking_folder.FIELDS_VERSION", FIELDS_VERSION + 1):
        newer = folder_of(spec, result, tmp_path / "var", Calibration())[1].model_version
    assert len(versions) == 2 and newer not in versions


def test_a_run_killed_within_an_epoch_ends_with_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = {"launcher": "local", "restarts": 0, "checkpoint_steps": 3}
    spec = ranking_spec(tmp_path, name="killed", **conf)
    monkeypatch.setenv("RECSYS_FAILPOINT", "train:checkpoint_written")
    with pytest.raises(TrainingFailed):
        launch(spec, spec.fits[0].training, None)
    monkeypatch.delenv("RECSYS_FAILPOINT")
    [resumed] = launch(spec, spec.fits[0].training, None)
    assert '"event": "resumed"' in (spec.work / "progress.jsonl").read_text()
    undisturbed = ranking_spec(tmp_path, name="undisturbed", **conf)
    [whole] = run_rank(undisturbed, LocalComm())
    versions = [
        folder_of(s, r, tmp_path / s.work.parent.name)[1].model_version
        for s, r in ((spec, resumed), (undisturbed, whole))
    ]
    assert versions[0] == versions[1]
