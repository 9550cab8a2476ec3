"""What the lock is for, shown on the log store that Delta has for local files: look, then rename."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import nullcontext
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from recsys.errors import Conflict
from recsys.locks import exclusive

processes = multiprocessing.get_context("spawn")
ROUNDS = 400


def commit_by_rename(log: Path, version: int, writer: int) -> bool:
    """As HDFSLogStore does on file: the rename overwrites what came between the look and the rename."""
    target = log / f"{version:020}.json"
    temporary = log / f".{version}.{writer}"
    temporary.write_text(str(writer))
    if target.exists():
        temporary.unlink()
        return False
    os.rename(temporary, target)
    return True


def write_log(log: Path, lock: Path | None, writer: int, barrier: Barrier) -> None:
    """Try to commit every version once; what is acknowledged is noted in a file of the writer's own."""
    acknowledged = []
    for version in range(ROUNDS):
        barrier.wait(60)
        with exclusive(lock, wait=True, what="a commit") if lock else nullcontext():
            if commit_by_rename(log, version, writer):
                acknowledged.append(version)
    (log / f"acknowledged-{writer}").write_text(" ".join(map(str, acknowledged)))


def race(log: Path, lock: Path | None) -> tuple[set[int], set[int]]:
    log.mkdir()
    barrier = processes.Barrier(2)
    writers = [processes.Process(target=write_log, args=(log, lock, n, barrier)) for n in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    first, second = (
        {int(v) for v in (log / f"acknowledged-{n}").read_text().split()} for n in (0, 1)
    )
    return first, second


def test_without_the_lock_two_writers_are_both_told_that_they_won(tmp_path: Path) -> None:
    first, second = race(tmp_path / "log", None)
    assert first & second, "the race did not show: the test below proves nothing on this machine"


def test_with_the_lock_no_acknowledged_commit_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first, second = race(log, tmp_path / "locks" / "table.lock")
    assert not first & second
    assert first | second == set(range(ROUNDS))
    for version in range(ROUNDS):
        assert (log / f"{version:020}.json").read_text() == ("0" if version in first else "1")


def hold(lock: Path, held: Path) -> None:
    with exclusive(lock, wait=False, what="the test"):
        held.touch()
        signal.pause()


def test_a_held_lock_is_a_conflict_that_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    lock, held = tmp_path / "locks" / "job.lock", tmp_path / "held"
    holder = processes.Process(target=hold, args=(lock, held))
    holder.start()
    try:
        deadline = time.monotonic() + 60
        while not held.exists() and time.monotonic() < deadline:
            holder.join(0.01)
        with pytest.raises(Conflict, match=f"build is already running .process {holder.pid}"):
            with exclusive(lock, wait=False, what="build"):
                pass
    finally:
        assert holder.pid
        os.kill(holder.pid, signal.SIGKILL)  # no clean-up of any kind
        holder.join()
    with exclusive(lock, wait=False, what="build"):
        pass
