"""Saving in the background: the same bytes, of the moment of ``begin``; a failure of one rank is told to all."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from recsys.config.places import CHECKOUT
from recsys.embeddings import Comm, LocalComm
from recsys.errors import RecsysError
from recsys.training.checkpoint import Checkpoint, Saver, blocks, newest, prune, saving
from recsys.training.checkpoint.blocks import Content
from recsys.training.checkpoint.manifest import FileFacts
from tests.embeddings.rank_threads import run_ranks
from tests.small_disk import run_on_small_disk
from tests.training.checkpoint.saves import (
    DENSE,
    begin,
    facts,
    save,
    share,
    spread_over,
    tables,
)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("size", [1, 2])
def test_in_the_background_the_files_are_the_same_byte_for_byte(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)
    whole = tables(rows=50)
    behind = save(tmp_path / "behind", 1, size=size, whole=whole)
    before = save(tmp_path / "before", 1, size=size, whole=whole, background=False)
    assert contents(behind) == contents(before)
    last = f"item.weight.{size - 1}-of-{size}.npy"
    assert sorted(contents(behind))[:1] == ["dense.npz"]
    assert last in contents(behind)
    # Each is written once, by the rank that has the rows; the replicated table by rank 0.
    assert len(contents(behind)) == 2 + 2 * size + 3


@pytest.mark.parametrize("whole_at_once", [True, False])
def test_what_is_trained_after_begin_is_not_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_at_once: bool
) -> None:
    if not whole_at_once:
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 24)
    trained = threading.Event()
    write = blocks.write

    def write_later(folder: Path, content: Content, *each: Callable[[], None]) -> FileFacts:
        assert trained.wait(60)
        return write(folder, content, *each)

    monkeypatch.setattr(blocks, "write", write_later)
    whole, saver = tables(), Saver(tmp_path, LocalComm())
    held = share(whole, 0, 1)
    dense = {"w": np.zeros(3)}
    saver.begin(facts(1), dense, held, spread_over(1), embedding_step=1)
    assert (saver.in_flight, saver.ready) == (True, False)
    for arrays in held.values():
        for values in arrays.values():
            values.add_(1)
    dense["w"] += 1
    trained.set()
    found = Checkpoint.open(saver.commit())
    assert not saver.in_flight
    for table, wanted in whole.items():
        for array, rows in wanted.items():
            np.testing.assert_array_equal(found.table(table, array), rows)
    np.testing.assert_array_equal(found.dense()["w"], np.zeros(3))


def test_ready_says_when_commit_has_nothing_to_wait_for(tmp_path: Path) -> None:
    saver = Saver(tmp_path, LocalComm())
    assert saver.ready
    begin(saver, LocalComm(), facts(1), tables())
    [thread] = [thread for thread in threading.enumerate() if thread.name == "checkpoint-0"]
    thread.join(60)
    assert (saver.in_flight, saver.ready) == (True, True)
    assert newest(tmp_path, key="k") is None, "it exists once it is committed"
    saver.commit()
    assert newest(tmp_path, key="k") is not None


def test_two_saves_in_a_row_and_none_at_the_same_time(tmp_path: Path) -> None:
    saver, comm = Saver(tmp_path, LocalComm()), LocalComm()
    begin(saver, comm, facts(0, 5), tables(1))
    with pytest.raises(AssertionError, match="commit comes before the next begin"):
        begin(saver, comm, facts(1), tables(2))
    first = saver.commit()
    begin(saver, comm, facts(1), tables(2))
    second = saver.commit()
    for path, seed in ((first, 1), (second, 2)):
        found = Checkpoint.open(path)
        found.verify()
        np.testing.assert_array_equal(found.table("item"), tables(seed)["item"]["weight"])
    with pytest.raises(AssertionError, match="begin comes first"):
        saver.commit()


def test_a_rank_that_cannot_write_fails_the_commit_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = save(tmp_path, 1, size=3)
    write = blocks.write

    def write_twice(folder: Path, content: Content, *each: Callable[[], None]) -> FileFacts:
        if content.name == "item.sum.1-of-3.npy":
            (folder / content.name).touch()  # as it would be were two processes one rank
        return write(folder, content, *each)

    monkeypatch.setattr(blocks, "write", write_twice)

    def of_rank(comm: Comm) -> str:
        saver = Saver(tmp_path, comm)
        begin(saver, comm, facts(2, size=3), tables(rows=9))
        with pytest.raises(RecsysError) as raised:
            saver.commit()
        assert not saver.in_flight
        return str(raised.value)

    told = run_ranks(3, of_rank)
    assert len(set(told)) == 1
    assert (
        "epoch-002-step-000000-0 was not written: rank 1: item.sum.1-of-3.npy: FileExistsError"
        in told[0]
    )
    found = newest(tmp_path, key="k")
    assert found is not None
    assert found.path == before
    prune(tmp_path, keep_newest=1, keep_epoch=1, key="k")
    assert [path.name for path in tmp_path.iterdir()] == [before.name]


class CountedComm(LocalComm):
    """Counts how often the ranks have told each other, at a commit, who is done."""

    def __init__(self) -> None:
        self.told = threading.Semaphore(0)

    def sum(self, values: Sequence[float], name: str) -> list[float]:
        self.told.release()
        return super().sum(values, name)


@pytest.mark.parametrize("blocks_are_written", [True, False])
def test_a_commit_that_waits_says_so_while_blocks_are_written_and_not_when_the_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks_are_written: bool
) -> None:
    monkeypatch.setattr(saving, "LOOK_SECONDS", 0.01)
    write, comm, said = blocks.write, CountedComm(), []

    def slow_write(folder: Path, content: Content, each: Callable[[], None]) -> FileFacts:
        block_is_written = each if blocks_are_written else lambda: None
        for _ in range(4):
            block_is_written()
            assert comm.told.acquire(timeout=60)
        return write(folder, content, block_is_written)

    monkeypatch.setattr(blocks, "write", slow_write)
    saver = Saver(tmp_path, comm, going_on=lambda: said.append("going on"))
    saver.begin(facts(1), DENSE, {}, {}, 0)
    saver.commit()
    assert bool(said) == blocks_are_written


def test_what_is_old_is_removed_while_training_goes_on_and_before_the_next_save(
    tmp_path: Path,
) -> None:
    saver, comm, order = Saver(tmp_path, LocalComm()), LocalComm(), []
    go_on = threading.Event()

    def tidied() -> None:
        assert go_on.wait(60)
        order.append("tidied")

    saver.tidy(tidied)
    order.append("went on")
    threading.Timer(0.05, go_on.set).start()
    begin(saver, comm, facts(1), tables())
    order.append("begun")
    saver.commit()
    assert order == ["went on", "tidied", "begun"]


def test_what_cannot_be_removed_is_in_the_log_and_stops_nothing(tmp_path: Path) -> None:
    def failing() -> None:
        raise OSError(16, "Device or resource busy")

    saver = Saver(tmp_path, LocalComm())
    with capture_logs() as logs:
        saver.tidy(failing)
        saver.wait_until_tidy()
    [line] = logs
    assert (line["event"], line["problem"]) == (
        "checkpoints_not_pruned", "OSError: Device or resource busy",
    )  # fmt: skip


def test_a_full_disk_is_said_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    done = run_on_small_disk(
        [sys.executable, "-m", "tests.training.checkpoint.outgrow", str(folder)],
        folder, megabytes=4, env={"PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told, kept, afterwards = done.stdout.splitlines()
    # Rank 0 may find the disk full too: which of them is first is up to chance.
    assert told.startswith(f"checkpoint {folder}/epoch-002-step-000000-0 was not written: rank ")
    assert "rank 1: item.weight.1-of-2.npy: OSError: No space left on device" in told
    assert "The one before it is kept: free some room" in told
    assert kept == "kept: epoch-001-step-000000-0"
    assert afterwards == "afterwards: epoch-003-step-000000-0"


def test_ranks_that_do_not_hold_their_share_are_refused(tmp_path: Path) -> None:
    def of_rank(comm: Comm) -> str:
        saver = Saver(tmp_path, comm)
        rows = torch.zeros(3 if comm.rank == 0 else 5, 2)
        saver.begin(facts(1, size=2), {}, {"item": {"weight": rows}}, {"item": 2}, 0)
        with pytest.raises(RecsysError) as raised:
            saver.commit()
        return str(raised.value)

    told = run_ranks(2, of_rank)
    assert all(r"the ranks hold [3, 5] rows of table 'item'; wanted are [4, 4]" in t for t in told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("table", "spread", "said"),
    [("../item", 1, "names are letters"), ("item", 2, "spread over 2 of 1 ranks")],
)
def test_what_cannot_be_saved_is_named(tmp_path: Path, table: str, spread: int, said: str) -> None:
    saver = Saver(tmp_path, LocalComm())
    saver.begin(facts(1), DENSE, {table: {"weight": torch.zeros(2, 2)}}, {table: spread}, 0)
    with pytest.raises(RecsysError, match=said):
        saver.commit()


def test_no_folder_is_an_error_on_every_rank(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def of_rank(comm: Comm) -> str:
        with pytest.raises(RecsysError) as raised:
            begin(Saver(tmp_path / "file" / "fit", comm), comm, facts(1, size=2), tables())
        return str(raised.value)

    told = run_ranks(2, of_rank)
    assert all("rank 0: NotADirectoryError: Not a directory" in text for text in told)
