"""Old checkpoints go; the last good one and that of the best epoch never do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.training.checkpoint import newest, prune, remove
from recsys.training.checkpoint.manifest import place_named
from tests.training.checkpoint.saves import end_of, save
from tests.training.checkpoint.test_damage import flip_a_bit, lose_the_manifest


def make_another_runs(path: Path) -> None:
    place = place_named(path.name)
    assert place is not None
    shutil.rmtree(path)
    save(path.parent, place.epoch, place.epoch_step, key="another run")


STATES = {
    "whole": lambda path: None,
    "damaged": lambda path: flip_a_bit(path / "item.weight.0-of-1.npy"),
    "unfinished": lose_the_manifest,
    "another run's": make_another_runs,
}
places = st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 5]))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_old_ones_go_but_not_the_newest_and_not_the_best(tmp_path: Path) -> None:
    for epoch in range(1, 7):
        save(tmp_path, epoch - 1, 5)
        path = save(tmp_path, epoch)
        if epoch == 4:
            lose_the_manifest(path)  # killed while saving
    prune(tmp_path, keep_newest=2, keep_epoch=2, key="k")
    assert names(tmp_path) == [
        "epoch-002-step-000000-0", "epoch-005-step-000005-0", "epoch-006-step-000000-0",
    ]  # fmt: skip


def test_a_save_that_may_be_under_way_is_left_alone(tmp_path: Path) -> None:
    lose_the_manifest(save(tmp_path, 1))
    save(tmp_path, 1)
    lose_the_manifest(save(tmp_path, 1, 5))
    prune(tmp_path, keep_newest=1, keep_epoch=1, key="k")
    assert names(tmp_path) == ["epoch-001-step-000000-1", "epoch-001-step-000005-0"]


@settings(max_examples=40)
@given(
    saves=st.lists(st.tuples(places, st.sampled_from(list(STATES))), min_size=1, max_size=6),
    keep_newest=st.integers(1, 3), keep_epoch=st.integers(0, 3),
)  # fmt: skip
def test_what_can_be_taken_up_is_the_same_after_pruning(
    tmp_path_factory: pytest.TempPathFactory,
    saves: list[tuple[tuple[int, int], str]], keep_newest: int, keep_epoch: int,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("pruned")
    # All are whole when they are written; damage comes later, so the attempts' numbers are as they would be.
    made = [(save(folder, *place), state) for place, state in saves]
    for path, state in made:
        STATES[state](path)
    before, best = newest(folder, key="k"), end_of(folder, keep_epoch, key="k")
    prune(folder, keep_newest=keep_newest, keep_epoch=keep_epoch, key="k")
    assert newest(folder, key="k") == before
    assert end_of(folder, keep_epoch, key="k") == best
    once = names(folder)
    prune(folder, keep_newest=keep_newest, keep_epoch=keep_epoch, key="k")
    assert names(folder) == once


def test_the_one_just_written_is_not_read_again_and_stays(tmp_path: Path) -> None:
    later = save(tmp_path, 3)
    flip_a_bit(later / "dense.npz", 200)  # so that training went on from an earlier one
    written = save(tmp_path, 2)
    save(tmp_path, 1)
    prune(tmp_path, keep_newest=1, keep_epoch=0, key="k", just_written=written)
    assert names(tmp_path) == [written.name, later.name]
    found = newest(tmp_path, key="k")
    assert found is not None
    assert found.path == written


def test_what_was_passed_over_takes_nobodys_place(tmp_path: Path) -> None:
    """A fit that was taken up at an earlier place keeps as many of its own as any other."""
    passed_over = [save(tmp_path, epoch).name for epoch in (8, 9)]
    mine = [save(tmp_path, epoch) for epoch in (2, 3, 4)]
    prune(tmp_path, keep_newest=2, keep_epoch=0, key="k", just_written=mine[-1])
    assert names(tmp_path) == [mine[1].name, mine[2].name, *passed_over]


def test_checkpoints_of_another_run_take_no_place_and_are_not_the_good_one(tmp_path: Path) -> None:
    before = save(tmp_path, 1)
    foreign = save(tmp_path, 2, key="another run")
    prune(tmp_path, keep_newest=1, keep_epoch=0, key="k")
    assert names(tmp_path) == [before.name, foreign.name]
    later = save(tmp_path, 3)
    prune(tmp_path, keep_newest=1, keep_epoch=0, key="k")
    assert names(tmp_path) == [later.name]


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
        remove(folder)
    assert newest(folder, key="k") is None, "half a folder would be believed"

    save(folder, 1)  # trained once more
    remove(folder)
    remove(folder)
    assert list(tmp_path.iterdir()) == []
