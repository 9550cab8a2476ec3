"""A model's folder: named by its content, whole or not there, checked when it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.config.places import PathsConfig
from recsys.embeddings import LocalComm, ShardedEmbeddings
from recsys.errors import CorruptArtifact, MissingInput
from recsys.models.sequential import gaps_between
from recsys.records import ModelManifest, verify_model
from recsys.training.checkpoint import write_arrays
from recsys.training.keeper import Keeper, Progress, Weights
from recsys.training.model_folder import load_model, trained_weights, weights_hash, write_model
from recsys.training.sequential import ITEMS, SequentialTask
from recsys.training.spec import Fit, FitResult
from tests.training.worlds import AS_OF, LENGTH, NUM_ITEMS, tiny_training


def fresh_weights(task: SequentialTask, fit: Fit) -> Weights:
    embeddings = ShardedEmbeddings(task.tables, LocalComm(), seed=fit.training.seed)
    return Weights(task.dense, torch.optim.AdamW(task.dense.parameters()), embeddings)


def checkpoint_of(fit: Fit, weights: Weights, folder: Path) -> Path:
    keeper = Keeper(fit, weights, LocalComm(), folder, report=lambda **facts: None)
    progress = Progress(epoch=4, step=9)
    keeper.begin(progress)
    keeper.finish()
    return keeper.best(progress)


def untrained(root: Path) -> tuple[PathsConfig, Fit, FitResult]:
    """A fit whose checkpoint holds fresh weights."""
    fit = Fit(
        name="release",
        as_of=AS_OF,
        training=tiny_training(),
        files=(),
        examples_hash="",
        num_items=NUM_ITEMS,
        history_length=LENGTH - 1,
    )
    path = checkpoint_of(fit, fresh_weights(SequentialTask(fit), fit), root / "checkpoints")
    return (
        PathsConfig(root=str(root / "var")),
        fit,
        FitResult(name="release", best_epoch=4, checkpoint=path),
    )


def test_the_folder_is_what_later_jobs_read(tmp_path: Path) -> None:
    paths, fit, result = untrained(tmp_path)
    manifest = write_model(paths, fit, result)
    folder = paths.models / manifest.model_version
    assert verify_model(folder) == manifest == ModelManifest.read(folder)
    assert (manifest.as_of, manifest.epochs, manifest.num_items) == (AS_OF, 4, NUM_ITEMS)
    vectors = np.load(folder / "item_vectors.npy", allow_pickle=False)
    assert (vectors.shape, vectors.dtype) == ((NUM_ITEMS + 1, 16), np.float32)
    assert not vectors[0].any()

    model, _ = load_model(folder)
    np.testing.assert_array_equal(model.items.weight.detach().numpy(), vectors)
    nums = torch.tensor([[0] * (LENGTH - 3) + [4, 9]])
    gaps = gaps_between((nums != 0).float() * 3, (nums != 0).float())
    task = SequentialTask(fit)
    history = fresh_weights(task, fit).embeddings.look_up({ITEMS: nums}, learn=False)[ITEMS]
    expected = task.encoder.eval()(history, gaps, (nums != 0).float())
    torch.testing.assert_close(model.user_vectors(nums, gaps), expected)


def test_writing_it_again_changes_nothing(tmp_path: Path) -> None:
    paths, fit, result = untrained(tmp_path)
    folder = paths.models / write_model(paths, fit, result).model_version
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_model(paths, fit, result)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in paths.models.iterdir()] == [folder.name]


def test_the_hash_is_of_names_shapes_and_bytes() -> None:
    one = {"a": np.zeros((2, 3), dtype=np.float32)}
    assert weights_hash(one) == weights_hash({"a": np.zeros((2, 3), dtype=np.float32)})
    others = [
        {"b": np.zeros((2, 3), dtype=np.float32)},
        {"a": np.zeros((3, 2), dtype=np.float32)},
        {"a": np.full((2, 3), 1e-30, dtype=np.float32)},
    ]
    assert len({weights_hash(arrays) for arrays in [one, *others]}) == 4


def test_damage_is_named(tmp_path: Path) -> None:
    paths, fit, result = untrained(tmp_path)
    folder = paths.models / write_model(paths, fit, result).model_version
    vectors = folder / "item_vectors.npy"
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    with pytest.raises(CorruptArtifact, match=r"item_vectors\.npy is damaged: sha256 .* run train"):
        verify_model(folder)
    with pytest.raises(MissingInput, match=r"no model at .*run train first"):
        load_model(tmp_path / "nowhere")

    seeded = fit.model_copy(update={"training": tiny_training(seed=99)})
    foreign = checkpoint_of(
        seeded, fresh_weights(SequentialTask(seeded), seeded), tmp_path / "foreign"
    )
    write_arrays(folder / "weights.npz", trained_weights(foreign))
    with pytest.raises(CorruptArtifact, match=r"weights\.npz holds the weights of model"):
        load_model(folder)


@pytest.mark.parametrize("name", ["item_vectors.npy", "manifest.json"])
def test_a_damaged_folder_is_made_again(tmp_path: Path, name: str) -> None:
    paths, fit, result = untrained(tmp_path)
    manifest = write_model(paths, fit, result)
    folder = paths.models / manifest.model_version
    (folder / name).write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact, match=f"{name} is damaged"):
        verify_model(folder)
    assert write_model(paths, fit, result) == manifest == verify_model(folder)
    (folder / "manifest.json").unlink()
    assert write_model(paths, fit, result) == manifest == verify_model(folder)
