"""One writer at a time: a lock that the kernel drops when its holder dies.

Delta's log store for ``file:`` renames after looking, so two processes can both be told that their
commit landed while one is lost (docs/adr/0003-one-writer-per-table.md). On object stores this lock
guards only the processes of one host.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.errors import Conflict

_held: set[int] = set()
"""Descriptors of the locks that are held, or about to be."""
_changing = threading.RLock()
"""Around each change of ``_held``; none is half done when another thread forks."""


def _let_go() -> None:
    """A child that is forked while a lock is held would hold it with its copy when its parent is killed."""
    for descriptor in _held:
        os.close(descriptor)  # of the copy alone: the parent goes on holding the lock
    _held.clear()
    _changing.release()


os.register_at_fork(
    before=_changing.acquire, after_in_parent=_changing.release, after_in_child=_let_go
)


@contextmanager
def exclusive(path: Path, *, wait: bool, what: str) -> Iterator[None]:
    """Hold ``path`` as a lock. With ``wait`` false a lock that is held raises Conflict at once.

    Raises:
        Conflict: the lock is held by another process; the message names its process id.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _changing:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
            raise Conflict(
                f"{what} is already running (process {holder}, lock {path}): wait for it to end, then run again"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        with _changing:
            if descriptor in _held:  # not so in a child that was forked inside
                _held.remove(descriptor)
                # Not by closing alone: a child that was forked and has not run yet has a copy open.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)
