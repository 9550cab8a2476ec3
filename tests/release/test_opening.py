"""A release that another process has checked: what that process is, and what its end means."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact
from recsys.release import opening, snapshot
from recsys.release.opening import open_release_aside
from recsys.release.pointer import release_folder
from recsys.release.snapshot import CHECKSUMS_FILE
from recsys.release.stored_list import decode
from tests.release.making import USERS, make_release

PATIENCE_SECONDS = 60.0

SAY_POLICY = """
import os, sys
sys.stdin.read()  # written once the policy is set
sys.stdout.write(f"policy {os.sched_getscheduler(0)}")
sys.exit(3)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paths = PathsConfig(root=str(tmp_path))
    return release_folder(paths, make_release(paths).release_id)


@pytest.fixture
def hangs(folder: Path) -> Path:
    """A checksum file whose reader waits for ever."""
    path = folder / CHECKSUMS_FILE
    path.unlink()
    os.mkfifo(path)
    return path


def is_read(fifo: Path) -> bool:
    """Whether a process has the other end open."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        assert error.errno == errno.ENXIO
        return False
    return True


def test_a_whole_release_is_opened_and_nothing_of_it_is_hashed_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("checked in the process that answers")

    monkeypatch.setattr(snapshot, "verify_checksums", never)
    monkeypatch.setattr(snapshot, "verify_content", never)
    with asyncio.run(open_release_aside(folder)) as opened:
        assert decode(opened.get("users", "ana") or b"") == USERS["ana"]


@pytest.mark.parametrize("urgent", [False, True])
def test_a_check_takes_the_processor_only_when_nobody_else_wants_it_unless_it_is_urgent(
    folder: Path, monkeypatch: pytest.MonkeyPatch, urgent: bool
) -> None:
    monkeypatch.setattr(opening, "COMMAND", (sys.executable, "-c", SAY_POLICY))
    policy = os.sched_getscheduler(0) if urgent else os.SCHED_IDLE
    with pytest.raises(CorruptArtifact, match=f"^policy {policy}$"):
        asyncio.run(open_release_aside(folder, urgent=urgent))


def test_one_that_gets_no_turn_is_started_again_with_a_small_part_of_the_processor(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_idle: list[int] = []
    made_low: list[tuple[int, int]] = []

    def stop(pid: int, *_: object) -> None:
        """An idle process that gets no turn of the processor."""
        made_idle.append(pid)
        os.kill(pid, signal.SIGSTOP)

    def note(which: int, pid: int, niceness: int) -> None:
        made_low.append((which, niceness))

    monkeypatch.setattr(os, "sched_setscheduler", stop)
    monkeypatch.setattr(os, "setpriority", note)
    monkeypatch.setattr(opening, "IDLE_SECONDS", 0.1)
    with capture_logs() as logs:
        asyncio.run(open_release_aside(folder)).close()
    assert [line["priority"] for line in logs] == ["idle"]
    assert made_low == [(os.PRIO_PROCESS, opening.LOW_NICENESS)]
    [stopped] = made_idle
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)


def test_one_that_hangs_is_a_refusal_and_leaves_no_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda pid, *_: started.append(pid))
    monkeypatch.setattr(os, "setpriority", lambda _, pid, __: started.append(pid))
    monkeypatch.setattr(opening, "COMMAND", (sys.executable, "-c", "import signal; signal.pause()"))
    monkeypatch.setattr(opening, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(opening, "PATIENCE_SECONDS", 0.5)
    with capture_logs() as logs, pytest.raises(CorruptArtifact, match="did not end in"):
        asyncio.run(open_release_aside(folder))
    ended = [line["priority"] for line in logs if line["event"] == "check_not_ended"]
    assert ended == ["idle", "low"] and len(started) == 2
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_one_that_outlives_its_kill_is_not_joined_by_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for a dead disk ends when the disk answers, and no sooner."""

    class Waits:
        returncode: int | None = None

    waits = Waits()
    monkeypatch.setattr(opening, "_unended", {waits})
    with pytest.raises(
        CorruptArtifact, match="an earlier check was killed and still waits for the disk"
    ):
        asyncio.run(open_release_aside(folder))
    waits.returncode = -9
    asyncio.run(open_release_aside(folder)).close()


def test_a_service_that_ends_meanwhile_takes_the_check_with_it(folder: Path, hangs: Path) -> None:
    async def start_and_cancel() -> None:
        opening = asyncio.create_task(open_release_aside(folder))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_read(hangs):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        os.close(os.open(hangs, os.O_RDWR))  # nothing was written: the check waits on
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    asyncio.run(start_and_cancel())
    assert not is_read(hangs)


def test_one_that_breaks_off_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (sys.executable, "-c", "import sys; sys.stdin.read(); raise MemoryError('no room')")
    monkeypatch.setattr(opening, "COMMAND", command)
    with pytest.raises(CorruptArtifact, match="broke off with exit code 1: MemoryError: no room"):
        asyncio.run(open_release_aside(folder))


def test_one_that_is_killed_is_a_refusal_and_the_next_try_may_succeed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_FAILPOINT", "check:after-checksums")
    with pytest.raises(
        CorruptArtifact, match=r"was ended by signal 9 \(Killed\); it is tried again"
    ):
        asyncio.run(open_release_aside(folder))
    monkeypatch.delenv("RECSYS_FAILPOINT")
    asyncio.run(open_release_aside(folder)).close()
