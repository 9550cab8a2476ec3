"""Open a release that another process has checked: one that answers has no time for checksums.

The check runs when nobody else wants the processor (``SCHED_IDLE``, and so with the lowest I/O priority, too). On a
host that is busy for long it would never come to an end: after a while it is started again as a process like others.
What a person decided, a pin or a roll-back, is checked by a process like others at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import structlog

from recsys.errors import EXIT_DONE, EXIT_REFUSED, CorruptArtifact
from recsys.release.manifest import ReleaseManifest
from recsys.release.snapshot import DATA_FILE, Promised, Snapshot

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "recsys.release.check")
IDLE_SECONDS, IDLE_BYTES_PER_SECOND = 10.0, 100e6
"""What an idle check may take: this, and the time to read the file at this rate."""
PATIENCE_SECONDS, BYTES_PER_SECOND = 60.0, 20e6
"""What the one after it may take."""
REAP_SECONDS = 1.0
"""A process that was killed ends at once, unless it waits for a disk that does not answer."""
_SHOWN = 200


async def open_release_aside(folder: Path, *, urgent: bool = False) -> Snapshot:
    """``open_release``, the checks done by another process; one that is ``urgent`` does not wait for an idle moment.

    Raises:
        CorruptArtifact: as ``open_release``; or the check was killed, broke off, or did not end in time.
    """
    promised = ReleaseManifest.read(folder).promised
    size = _size_bytes(folder / DATA_FILE)
    tries = [
        (IDLE_SECONDS + size / IDLE_BYTES_PER_SECOND, True),
        (PATIENCE_SECONDS + size / BYTES_PER_SECOND, False),
    ]
    for seconds, idle in tries[urgent:]:
        try:
            await _check(folder, promised, seconds, idle=idle)
            break
        except TimeoutError:
            log.warning("check_not_ended", release=folder.name, seconds=round(seconds), idle=idle)
    else:
        raise CorruptArtifact(
            f"the check of release {folder.name} did not end in {seconds:.0f} s: is the disk of {folder} well?"
        )
    return await asyncio.to_thread(Snapshot, folder)


async def _check(folder: Path, promised: Promised, seconds: float, *, idle: bool) -> None:
    """Raises CorruptArtifact, or TimeoutError. However it ends, the process ends with it."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        if idle:
            with suppress(OSError):  # it has ended, or this host does not allow it
                os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
        async with asyncio.timeout(seconds):
            said, complained = await process.communicate(json.dumps(promised._asdict()).encode())
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), REAP_SECONDS)
    if process.returncode == EXIT_REFUSED:
        raise CorruptArtifact(said.decode())
    if process.returncode != EXIT_DONE:
        raise CorruptArtifact(
            f"the check of release {folder.name} {_ended(process.returncode or 0, complained)}; "
            "it is tried again, and what was served before stays"
        )


def _ended(code: int, complained: bytes) -> str:
    if code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    last = complained.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f"broke off with exit code {code}: {last[:_SHOWN]}"


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # the check says so
        return 0
