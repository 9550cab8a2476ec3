"""Only what verifies exists: every way of damaging a checkpoint leaves the one before it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recsys.errors import CorruptArtifact
from recsys.training import checkpoint
from recsys.training.checkpoint import CheckpointManifest


def save(folder: Path, epoch: int, value: float = 0.0) -> Path:
    manifest = CheckpointManifest(
        key="k",
        world_size=2,
        epoch=epoch,
        step=epoch * 10,
        validation_ndcg_at_10=(0.5,) * epoch,
        files={},
    )
    arrays = {"model": {"w": np.full(3, value)}, "optimizer": {"0.step": np.array(epoch)}}
    return checkpoint.save(folder, arrays, manifest)


def flip_a_byte(path: Path) -> None:
    content = bytearray((path / "model.npz").read_bytes())
    content[-30] ^= 1
    (path / "model.npz").write_bytes(bytes(content))


def truncate(path: Path) -> None:
    (path / "optimizer.npz").write_bytes((path / "optimizer.npz").read_bytes()[:-1])


def lose_a_file(path: Path) -> None:
    (path / "optimizer.npz").unlink()


def swap_files(path: Path) -> None:
    (path / "model.npz").rename(path / "other")
    (path / "optimizer.npz").rename(path / "model.npz")
    (path / "other").rename(path / "optimizer.npz")


def lose_the_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def garble_the_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("{")


def take_a_foreign_one(path: Path) -> None:
    facts = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**facts, "key": "another run"}))


DAMAGES = (
    flip_a_byte, truncate, lose_a_file, swap_files, lose_the_manifest, garble_the_manifest, take_a_foreign_one,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    before, last = save(tmp_path, 1), save(tmp_path, 2)
    assert checkpoint.newest(tmp_path, key="k", world_size=2) == last
    damage(last)
    assert checkpoint.newest(tmp_path, key="k", world_size=2) == before


def test_one_of_another_world_size_is_not_taken_up(tmp_path: Path) -> None:
    save(tmp_path, 1)
    assert checkpoint.newest(tmp_path, key="k", world_size=3) is None


def test_a_second_attempt_at_an_epoch_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    first = save(tmp_path, 1)
    lose_the_manifest(first)
    second = save(tmp_path, 1, value=2.0)
    assert (first.name, second.name) == ("epoch-001-0", "epoch-001-1")
    assert checkpoint.newest(tmp_path, key="k", world_size=2) == second


def test_verify_names_the_file_and_what_was_found(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    truncate(path)
    with pytest.raises(CorruptArtifact, match=r"optimizer\.npz has \d+ bytes.*its manifest says"):
        checkpoint.verify(path, checkpoint.read_manifest(path))


def test_old_ones_go_but_not_the_newest_and_not_the_best(tmp_path: Path) -> None:
    for epoch in range(1, 7):
        path = save(tmp_path, epoch)
        if epoch == 4:
            lose_the_manifest(path)  # killed while saving
    checkpoint.prune(tmp_path, keep_newest=2, keep_epoch=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "epoch-002-0",
        "epoch-005-0",
        "epoch-006-0",
    ]


def test_model_and_optimizer_come_back_bit_for_bit(tmp_path: Path) -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(1)
        model = nn.Linear(4, 3)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()

    model, optimizer = made()
    step(model, optimizer)
    checkpoint.write_arrays(tmp_path / "m.npz", checkpoint.model_arrays(model))
    checkpoint.write_arrays(tmp_path / "o.npz", checkpoint.optimizer_arrays(optimizer))
    again, again_optimizer = made()
    checkpoint.load_model(again, checkpoint.read_arrays(tmp_path / "m.npz"))
    checkpoint.load_optimizer(again_optimizer, checkpoint.read_arrays(tmp_path / "o.npz"))
    for pair in ((model, optimizer), (again, again_optimizer)):
        step(*pair)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_equal_arrays_give_equal_bytes_and_nothing_is_unpickled(tmp_path: Path) -> None:
    arrays = {"b": np.arange(3), "a": np.zeros(2)}
    checkpoint.write_arrays(tmp_path / "1.npz", arrays)
    checkpoint.write_arrays(tmp_path / "2.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    np.savez(tmp_path / "evil.npz", x=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        checkpoint.read_arrays(tmp_path / "evil.npz")


def test_removed_checkpoints_lose_their_name_before_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fit"
    for epoch in (1, 2):
        save(folder, epoch)

    def killed(path: Path, *, ignore_errors: bool = False) -> None:
        if path.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        checkpoint.remove(folder)
    assert checkpoint.newest(folder, key="k", world_size=2) is None, (
        "half a folder would be believed"
    )

    save(folder, 1)  # trained once more
    checkpoint.remove(folder)
    checkpoint.remove(folder)
    assert list(tmp_path.iterdir()) == []
