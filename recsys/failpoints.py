"""Named places where a test can end the process: ``RECSYS_FAILPOINT=name`` kills it there, as kill -9 would."""

from __future__ import annotations

import os
import signal


def failpoint(name: str) -> None:
    """Do nothing, unless RECSYS_FAILPOINT names this place; then die by SIGKILL, after saying so."""
    if os.environ.get("RECSYS_FAILPOINT") == name:
        os.write(2, f"failpoint {name}: killing process {os.getpid()}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
