"""Open a release that was checked; a process that answers requests has another one check, it has no time for checksums.

The check runs when nobody else wants the processor (``SCHED_IDLE``, and so with the lowest I/O priority, too). On a
host that is busy for long it would never come to an end: after a while it is started again at a low priority, which is
a small part of a processor whatever the others want. What a person decided, a pin or a roll-back, is checked at once
by a process like others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

import structlog

from recsys.errors import EXIT_DONE, EXIT_REFUSED, CorruptArtifact
from recsys.release.manifest import ReleaseManifest
from recsys.release.snapshot import DATA_FILE, Promised, Snapshot, verify_checksums, verify_content

log = structlog.get_logger()

Priority = Literal["idle", "low", "normal"]

COMMAND = (sys.executable, "-P", "-m", "recsys.release.check")
IDLE_SECONDS, IDLE_BYTES_PER_SECOND = 10.0, 100e6
"""What an idle check may take: this, and the time to read the file at this rate."""
PATIENCE_SECONDS, BYTES_PER_SECOND = 60.0, 20e6
"""What the one after it, and one that is urgent, may take."""
LOW_NICENESS = 10
"""About a tenth of what a process like others gets."""
REAP_SECONDS = 1.0
"""A process that was killed ends at once, unless it waits for a disk that does not answer."""
_SHOWN = 200
_unended: set[asyncio.subprocess.Process] = set()
"""Checks that were killed and wait for such a disk."""


def open_release(folder: Path) -> Snapshot:
    """Verify the release in ``folder`` and open its snapshot.

    Raises:
        CorruptArtifact: something is missing, a checksum is off, or a golden user's answer differs.
    """
    manifest = ReleaseManifest.read(folder)
    verify_checksums(folder)
    snapshot = Snapshot(folder)
    try:
        verify_content(snapshot, manifest.promised)
    except CorruptArtifact:
        snapshot.close()
        raise
    return snapshot


async def open_release_aside(folder: Path, *, urgent: bool = False) -> Snapshot:
    """``open_release``, the checks done by another process; one that is ``urgent`` does not wait for an idle moment.

    Raises:
        CorruptArtifact: as ``open_release``; or the check was killed, broke off, or did not end in time.
    """
    _unended.difference_update([one for one in _unended if one.returncode is not None])
    if _unended:
        raise CorruptArtifact(
            f"release {folder.name} is not checked: an earlier check was killed and still waits for the disk of "
            f"{folder}"
        )
    promised, size_bytes = await asyncio.to_thread(_known, folder)
    patient_seconds = PATIENCE_SECONDS + size_bytes / BYTES_PER_SECOND
    tries: list[tuple[Priority, float]] = [("normal", patient_seconds)]
    if not urgent:
        idle_seconds = IDLE_SECONDS + size_bytes / IDLE_BYTES_PER_SECOND
        tries = [("idle", idle_seconds), ("low", patient_seconds)]
    for priority, timeout_seconds in tries:
        try:
            await _check(folder, promised, priority, timeout_seconds)
            break
        except TimeoutError:
            log.warning(
                "check_not_ended", release=folder.name, seconds=round(timeout_seconds), priority=priority
            )  # fmt: skip
    else:
        raise CorruptArtifact(
            f"the check of release {folder.name} did not end in {timeout_seconds:.0f} s: is the disk of {folder} well?"
        )
    return await asyncio.to_thread(Snapshot, folder)


async def _check(
    folder: Path, promised: Promised, priority: Priority, timeout_seconds: float
) -> None:
    """Raises CorruptArtifact, or TimeoutError. However it ends, the process is killed if it has not ended."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        with suppress(OSError):  # it has ended, or this host does not allow it
            if priority == "idle":
                os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
            elif priority == "low":
                os.setpriority(os.PRIO_PROCESS, process.pid, LOW_NICENESS)
        async with asyncio.timeout(timeout_seconds):
            said, complained = await process.communicate(json.dumps(promised._asdict()).encode())
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            _unended.add(process)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), REAP_SECONDS)
    if process.returncode == EXIT_REFUSED:
        raise CorruptArtifact(said.decode())
    if process.returncode != EXIT_DONE:
        raise CorruptArtifact(
            f"the check of release {folder.name} {_ended(process.returncode or 0, complained)}; "
            "it is tried again, and what was served before stays"
        )


def _known(folder: Path) -> tuple[Promised, int]:
    """What is promised of the snapshot, and its bytes; 0 where there is none, which the check then says."""
    promised = ReleaseManifest.read(folder).promised
    data = folder / DATA_FILE
    return promised, data.stat().st_size if data.exists() else 0


def _ended(code: int, complained: bytes) -> str:
    if code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    last = complained.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f"broke off with exit code {code}: {last[:_SHOWN]}"
