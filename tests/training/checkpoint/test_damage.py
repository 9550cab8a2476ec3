"""Only what verifies exists: every way of damaging a checkpoint is named and leaves the one before it."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from recsys.errors import ContractError, CorruptArtifact
from recsys.training.checkpoint import Checkpoint, newest
from tests.training.checkpoint.saves import DENSE, end_of, save, tables

FIRST, SECOND = "item.weight.0-of-2.npy", "item.weight.1-of-2.npy"


def flip_a_bit(path: Path, place: int = -5, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(bytes(content))


def flip_a_byte_of_a_shard(path: Path) -> None:
    flip_a_bit(path / SECOND)


def flip_a_byte_of_the_dense_arrays(path: Path) -> None:
    flip_a_bit(path / "dense.npz", 200)


def truncate_a_shard(path: Path) -> None:
    (path / SECOND).write_bytes((path / SECOND).read_bytes()[:-1])


def swap_two_shards(path: Path) -> None:
    (path / FIRST).rename(path / "other")
    (path / SECOND).rename(path / FIRST)
    (path / "other").rename(path / SECOND)


def lose_the_file_of_a_rank(path: Path) -> None:
    (path / SECOND).unlink()


def lose_the_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def garble_the_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("{")


def change_the_step_in_the_manifest(path: Path) -> None:
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"step": 200', '"step": 201'))


def take_one_of_another_run(path: Path) -> None:
    shutil.rmtree(path)
    save(path.parent, 2, size=2, key="another run")


def replay_an_older_one(path: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(path.with_name("epoch-001-step-000000-0"), path)


DAMAGES = {
    flip_a_byte_of_a_shard: rf"{SECOND} has sha256",
    flip_a_byte_of_the_dense_arrays: r"dense\.npz has sha256",
    truncate_a_shard: rf"{SECOND} has \d+ bytes",
    swap_two_shards: rf"{FIRST} has",
    lose_the_file_of_a_rank: rf"{SECOND} is missing",
    lose_the_manifest: "no manifest: it was not finished",
    garble_the_manifest: "damaged manifest.json",
    change_the_step_in_the_manifest: "damaged manifest.json",
    take_one_of_another_run: r"belongs to another run \(another run, wanted k\)",
    replay_an_older_one: "manifest of another place in training: epoch 1",
}
every_damage = pytest.mark.parametrize(
    ("damage", "said"), DAMAGES.items(), ids=[damage.__name__ for damage in DAMAGES]
)


@every_damage
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    # Three and four rows: swapped shards have other lengths. Equal ones are in the test below.
    before, last = (save(tmp_path, epoch, size=2) for epoch in (1, 2))
    found = newest(tmp_path, key="k")
    assert found is not None
    assert found.path == last
    damage(last)
    with capture_logs() as logged:
        found = newest(tmp_path, key="k")
    assert found is not None
    assert found.path == before
    [line] = logged
    assert line["event"] == "checkpoint_passed_over"
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(line["reason"])


def test_swapped_shards_of_equal_length_are_told_by_their_checksums(tmp_path: Path) -> None:
    path = save(tmp_path, 1, size=2, whole=tables(rows=8))
    assert (path / FIRST).stat().st_size == (path / SECOND).stat().st_size
    swap_two_shards(path)
    with pytest.raises(CorruptArtifact, match=rf"{FIRST} has sha256"):
        Checkpoint.open(path).verify()
    assert newest(tmp_path, key="k") is None


@settings(max_examples=80)
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7), number=st.integers(0, 20))
def test_no_bit_can_change_unseen(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, number: int
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    path = save(folder, 1, whole=tables(rows=2, dim=1))
    files = sorted(path.iterdir())
    flip_a_bit(files[number % len(files)], place, bit)
    assert newest(folder, key="k") is None


def resealed(content: str) -> str:
    """With the checksum of these bytes: as another version of the code may have written it."""
    body = re.sub(r'\n "sha256": "[0-9a-f]{64}"', "", content)
    seal = f'\n "sha256": "{hashlib.sha256(body.encode()).hexdigest()}"'
    return body.removesuffix("\n}") + seal + "\n}"


def test_a_manifest_without_a_field_that_was_added_since_is_whole(tmp_path: Path) -> None:
    path = save(tmp_path, 1) / "manifest.json"
    assert resealed(path.read_text()) == path.read_text()
    older = path.read_text().replace('  "num_examples": 0,\n', "")
    assert older != path.read_text()
    path.write_text(resealed(older))
    found = newest(tmp_path, key="k")
    assert found is not None
    assert found.manifest.facts.num_examples == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"format": 1', '"format": 2', "has format 2; this version of the code reads 1"),
        ('"seed": 17', '"sown": 17', r"manifest.json of another version of the code \(1 problems, the first at"),
    ],
)  # fmt: skip
def test_a_manifest_of_a_later_version_says_so(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    folder = save(tmp_path, 1)
    manifest = folder / "manifest.json"
    manifest.write_text(resealed(manifest.read_text().replace(old, new)))
    with pytest.raises(CorruptArtifact, match=said):
        Checkpoint.open(folder)


def test_the_end_of_an_epoch_of_another_run_is_not_taken(tmp_path: Path) -> None:
    ours = save(tmp_path, 2)
    save(tmp_path, 2, key="another run")
    found = end_of(tmp_path, 2, key="k")
    assert found is not None
    assert found.path == ours
    assert end_of(tmp_path, 2, key="a third run") is None


def test_the_end_of_an_epoch_is_not_a_step_of_the_next_one(tmp_path: Path) -> None:
    first, second = save(tmp_path, 1), save(tmp_path, 1)
    save(tmp_path, 1, 7)
    found = end_of(tmp_path, 1, key="k")
    assert found is not None
    assert found.path == second, "the newest attempt"
    flip_a_bit(second / "dense.npz", 200)
    found = end_of(tmp_path, 1, key="k")
    assert found is not None
    assert found.path == first
    assert end_of(tmp_path, 2, key="k") is None


def test_later_is_by_numbers_not_by_names(tmp_path: Path) -> None:
    for epoch, epoch_step in ((999, 999_999), (999, 1_000_000), (1000, 0)):
        latest = save(tmp_path, epoch, epoch_step)
        found = newest(tmp_path, key="k")
        assert found is not None
        assert found.path == latest


def test_what_is_read_is_what_was_saved(tmp_path: Path) -> None:
    path = save(tmp_path, 2, 3, size=2, whole=tables(seed=9))
    found = newest(tmp_path, key="k")
    assert found is not None
    assert (found.path, found.path.name) == (path, "epoch-002-step-000003-0")
    facts = found.manifest.facts
    assert (facts.step, facts.world_size, facts.seed, facts.position) == (
        203, 2, 17, {"legs": [1, 2]},
    )  # fmt: skip
    assert found.manifest.embedding_step == 203
    dense = found.dense()
    assert dense.keys() == DENSE.keys()
    for name, values in DENSE.items():
        np.testing.assert_array_equal(dense[name], values)
    mapped = np.load(path / FIRST, mmap_mode="r", allow_pickle=False)
    np.testing.assert_array_equal(mapped, tables(seed=9)["item"]["weight"][::2])


def test_a_table_that_was_not_saved_is_refused_by_name(tmp_path: Path) -> None:
    found = Checkpoint.open(save(tmp_path, 1))
    with pytest.raises(ContractError, match="no array 'weight' of a table 'user'; it has"):
        found.rows("user", "weight", 0, 1)
    with pytest.raises(ContractError, match="no array 'mean' of a table 'item'"):
        found.rows("item", "mean", 0, 1)


def test_a_shard_of_another_shape_is_refused(tmp_path: Path) -> None:
    """Files whose checksums are not looked at: ranks other than 0 trust that rank 0 did."""
    path = save(tmp_path, 1, size=2)
    np.save(path / SECOND, np.zeros((3, 5), np.float32))
    with pytest.raises(CorruptArtifact, match=rf"{SECOND} holds \(3, 5\) float32; wanted"):
        Checkpoint.open(path).table("item")
    (path / SECOND).write_bytes(b"no array")
    with pytest.raises(CorruptArtifact, match=rf"{SECOND} is no npy file"):
        Checkpoint.open(path).table("item")
