"""torch -> ONNX: the same numbers, the same bytes each time, and a difference stops the release."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from recsys.errors import CorruptArtifact, Refused
from recsys.export import UserHistories, check_parity, export_model, parity
from recsys.export.onnx_file import record_file
from recsys.export.parity import different_top
from recsys.records import ModelManifest, verify_model
from recsys.training.model_folder import write_model
from recsys.training.validation import top_k
from tests.training.test_model_folder import untrained
from tests.training.worlds import LENGTH, cyclic_histories

H = LENGTH - 1
# The package offers a function of the same name.
parity_module = importlib.import_module("recsys.export.parity")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that was not exported yet."""
    paths, fit, result = untrained(tmp_path)
    return paths.models / write_model(paths, fit, result).model_version


def users(count: int = 40) -> UserHistories:
    """Histories of every length from 1 to H."""
    nums = cyclic_histories(count)[:, 1:].copy()
    for row in range(count):
        nums[row, : row % H] = 0
    ages = np.where(nums != 0, np.arange(2 * H, 0, -2, dtype=np.float32), 0).astype(np.float32)
    return UserHistories(tuple(f"user-{row}" for row in range(count)), nums.astype(np.int32), ages)


def test_the_export_gives_what_torch_gives_and_is_in_the_manifest(folder: Path) -> None:
    path = export_model(folder)
    report = check_parity(folder, users(), max_relative_difference=1e-4)
    assert (report.users, report.different_top_10) == (40, 0)
    assert 0 < report.max_relative_difference < 1e-4
    assert set(verify_model(folder).files) == {
        "item_vectors.npy", "model.onnx", "parity.json", "weights.npz",
    }  # fmt: skip
    assert report.onnx_sha256 == ModelManifest.read(folder).files["model.onnx"]

    model = onnx.load(path)
    dims = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert dims == {
        "history_vectors": ["batch", H, 16],
        "history_gaps": ["batch", H],
        "history_mask": ["batch", H],
        "user_vectors": ["batch", 16],
    }
    facts = {prop.key: prop.value for prop in model.metadata_props}
    assert facts["model_version"] == folder.name
    assert facts["history_gaps"].startswith("float32 (B, H): days")
    assert str(Path(__file__).resolve().parents[2]).encode() not in path.read_bytes()


def test_exporting_again_keeps_the_file_and_mends_a_damaged_one(folder: Path) -> None:
    path = export_model(folder)
    content, written = path.read_bytes(), path.stat().st_mtime_ns
    export_model(folder)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(content[:-50])
    export_model(folder)
    assert path.read_bytes() == content


def test_killed_between_file_and_manifest_it_is_done_again_with_equal_bytes(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    program = "import sys, pathlib, recsys.export as e; e.export_model(pathlib.Path(sys.argv[1]))"
    killed = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env={**os.environ, "RECSYS_FAILPOINT": "export_onnx:file_written"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert "failpoint export_onnx:file_written: killing process" in killed.stderr
    assert (folder / "manifest.json").read_bytes() == before
    written = (folder / "model.onnx").read_bytes()
    assert export_model(folder).read_bytes() == written
    assert "model.onnx" in verify_model(folder).files


def test_other_weights_than_torchs_are_refused_with_the_user(folder: Path) -> None:
    path = export_model(folder)
    model = onnx.load(path)
    [norm] = [i for i in model.graph.initializer if i.name == "norm.weight"]
    norm.raw_data = (np.frombuffer(norm.raw_data, dtype=np.float32) * np.float32(1.01)).tobytes()
    onnx.save(model, path)
    with pytest.raises(CorruptArtifact, match=r"model\.onnx is damaged"):
        parity(folder, users())
    manifest = ModelManifest.read(folder)
    record_file(folder, manifest, "model.onnx")  # as if it had been exported so
    with pytest.raises(
        Refused, match=r"relative difference 0\.\d+ for user 'user-\d+', allowed 0\.0001"
    ) as said:
        check_parity(folder, users(), max_relative_difference=1e-4)
    assert said.value.exit_code == 3
    assert "parity.json" not in ModelManifest.read(folder).files


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


@pytest.mark.parametrize("place", ["parity", "write_atomically", "record_file"])
def test_killed_anywhere_in_a_second_check_the_folder_verifies_and_nothing_is_proven(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    export_model(folder)
    check_parity(folder, users(40), max_relative_difference=1e-4)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(parity_module, place, killed)
        check_parity(folder, users(30), max_relative_difference=1e-4)
    assert "parity.json" not in verify_model(folder).files

    check_parity(folder, users(30), max_relative_difference=1e-4)
    assert "parity.json" in verify_model(folder).files


def test_a_second_check_that_refuses_takes_the_proof_of_the_first_away(folder: Path) -> None:
    export_model(folder)
    check_parity(folder, users(), max_relative_difference=1e-4)
    with pytest.raises(Refused, match="ONNX does not give what torch gives"):
        check_parity(folder, users(30), max_relative_difference=0)
    assert "parity.json" not in verify_model(folder).files


def test_a_file_exported_anew_has_no_proof_yet(folder: Path) -> None:
    path = export_model(folder)
    check_parity(folder, users(), max_relative_difference=1e-4)
    path.write_bytes(b"damaged")
    export_model(folder)
    assert set(verify_model(folder).files) == {"item_vectors.npy", "model.onnx", "weights.npz"}


def test_a_large_catalogue_is_compared_for_few_users_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(3)

    def small_integers(*shape: int) -> NDArray[np.float32]:
        return random.integers(-2, 3, shape).astype(np.float32)  # exact sums, so many real ties

    ours, theirs, items = small_integers(40, 4), small_integers(40, 4), small_integers(60, 4)
    theirs[::2] = ours[::2]
    scores = ours @ items[1:].T
    best = -np.sort(-scores, axis=1)[:, :10]
    picked = np.argsort(-(theirs @ items[1:].T), axis=1, kind="stable")[:, :10]
    differs = (best != np.take_along_axis(scores, picked, axis=1)).any(axis=1)
    assert 0 < differs.sum() < 40
    cells = []

    def watched(scores: torch.Tensor, k: int) -> torch.Tensor:
        cells.append(scores.numel())
        return top_k(scores, k)

    monkeypatch.setattr(parity_module, "top_k", watched)
    monkeypatch.setattr(parity_module, "BLOCK_CELLS", 7 * len(items))
    assert different_top(ours, theirs, items) == np.flatnonzero(differs).tolist()
    assert max(cells) <= 7 * len(items)


def test_a_top_10_may_differ_by_ties_alone() -> None:
    items = np.zeros((13, 2), dtype=np.float32)
    items[1:, 0] = [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 3, 1]  # items 10 and 11 tie for the last place
    user = np.array([[1, 0], [1, 0]], dtype=np.float32)
    turned = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    assert different_top(user, user, items) == []
    assert different_top(user, turned, items) == [1]
    swapped = items.copy()
    swapped[[10, 11], 1] = [0.0, 1.0]  # ONNX prefers item 11, which torch scores the same
    assert different_top(user[:1], np.array([[1, 0.001]], dtype=np.float32), swapped) == []
