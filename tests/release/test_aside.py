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
from recsys.release import aside, snapshot
from recsys.release.aside import open_release_aside
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
    monkeypatch.setattr(aside, "COMMAND", (sys.executable, "-c", SAY_POLICY))
    policy = os.sched_getscheduler(0) if urgent else os.SCHED_IDLE
    with pytest.raises(CorruptArtifact, match=f"^policy {policy}$"):
        asyncio.run(open_release_aside(folder, urgent=urgent))


def test_one_that_does_not_end_is_started_again_as_a_process_like_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_idle: list[int] = []

    def stop(pid: int, *_: object) -> None:
        """An idle process that gets no turn of the processor."""
        made_idle.append(pid)
        os.kill(pid, signal.SIGSTOP)

    monkeypatch.setattr(os, "sched_setscheduler", stop)
    monkeypatch.setattr(aside, "IDLE_SECONDS", 0.1)
    with capture_logs() as logs:
        asyncio.run(open_release_aside(folder)).close()
    assert [line["idle"] for line in logs] == [True]
    [stopped] = made_idle  # the second process was left as it is
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)


def test_one_that_hangs_is_a_refusal_and_leaves_no_process(
    folder: Path, hangs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(aside, "PATIENCE_SECONDS", 0.5)
    with capture_logs() as logs, pytest.raises(CorruptArtifact, match="did not end in"):
        asyncio.run(open_release_aside(folder))
    assert [line["idle"] for line in logs if line["event"] == "check_not_ended"] == [True, False]
    assert not is_read(hangs)


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
    monkeypatch.setattr(aside, "COMMAND", command)
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
