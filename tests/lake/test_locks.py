"""What the lock is for, shown on the log store that Delta has for local files: look, then rename."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import pytest

from recsys import locks
from recsys.errors import Conflict
from recsys.locks import exclusive

processes = multiprocessing.get_context("spawn")
ROUNDS = 20


@dataclass(frozen=True)
class Race:
    """Two writers that try to commit the same versions, round by round."""

    log: Path
    lock: Path | None
    patience_seconds: float
    """How long a writer that has looked waits for the other to look, too."""
    round_begins: Barrier
    has_looked: tuple[Event, Event]

    def write(self, writer: int) -> None:
        """Note every version that was acknowledged to ``writer``."""
        acknowledged = []
        for version in range(ROUNDS):
            self.round_begins.wait(60)  # else what is cleared is what the other still waits for
            self.has_looked[writer].clear()
            self.round_begins.wait(60)
            with exclusive(self.lock, wait=True, what="a commit") if self.lock else nullcontext():
                if self.commit(version, writer):
                    acknowledged.append(version)
        (self.log / f"acknowledged-{writer}").write_text(" ".join(map(str, acknowledged)))

    def commit(self, version: int, writer: int) -> bool:
        """As HDFSLogStore does on file: the rename overwrites what came between the look and the rename."""
        target = self.log / f"{version:020}.json"
        temporary = self.log / f".{version}.{writer}"
        temporary.write_text(str(writer))
        if target.exists():
            return False
        self.has_looked[writer].set()
        self.has_looked[1 - writer].wait(self.patience_seconds)
        os.rename(temporary, target)
        return True


def acknowledged(
    log: Path, lock: Path | None, patience_seconds: float
) -> tuple[set[int], set[int]]:
    """The versions that each of the two writers was told it had written."""
    log.mkdir()
    events = processes.Event(), processes.Event()
    race = Race(log, lock, patience_seconds, processes.Barrier(2), events)
    writers = [processes.Process(target=race.write, args=(n,)) for n in (0, 1)]
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
    first, second = acknowledged(tmp_path / "log", None, patience_seconds=30)
    assert first & second, "the race did not show: the test below proves nothing"


def test_with_the_lock_no_acknowledged_commit_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "log"
    # The other cannot look while the lock is held, so waiting for it only widens the gap.
    first, second = acknowledged(log, tmp_path / "locks" / "table.lock", patience_seconds=0.05)
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


def live_on(lives: Event, end: Event) -> None:
    lives.set()
    end.wait(120)
    lives.clear()


def hold_and_fork(lock: Path, lives: Event, end: Event) -> None:
    with exclusive(lock, wait=False, what="a pull"):
        multiprocessing.get_context("fork").Process(target=live_on, args=(lives, end)).start()
        signal.pause()


def test_a_child_that_was_forked_while_a_lock_was_held_does_not_keep_it(tmp_path: Path) -> None:
    path, lives, end = tmp_path / "x.lock", processes.Event(), processes.Event()
    holder = processes.Process(target=hold_and_fork, args=(path, lives, end))
    holder.start()
    try:
        assert lives.wait(60)
        with pytest.raises(Conflict):  # whatever the child closed, its parent holds the lock
            exclusive(path, wait=False, what="a pull").__enter__()
        assert holder.pid
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
        with exclusive(path, wait=False, what="a pull"):
            assert lives.is_set()
    finally:
        end.set()
        holder.kill()
        holder.join()


def test_a_lock_is_free_at_its_end_though_a_copy_of_its_descriptor_is_open(tmp_path: Path) -> None:
    """As in a child that is forked, and has not run yet."""
    path = tmp_path / "x.lock"
    with exclusive(path, wait=False, what="a pull"):
        (descriptor,) = locks._held
        copy = os.dup(descriptor)
    with exclusive(path, wait=False, what="a pull"):
        pass
    os.close(copy)
