"""Libraries that the set-up compiles beside their sources; without one, slower code gives the same."""

from __future__ import annotations

import ctypes
from pathlib import Path

import structlog

log = structlog.get_logger()


def load_library(path: Path, version: int, instead: str) -> ctypes.CDLL | None:
    """The library; None, said in the log as ``instead``, where it is missing, of another version, or, having a
    function ``runs_here``, for processors that can do more than this one."""
    reason = ""
    try:
        library = ctypes.CDLL(str(path))
        if library.version() != version:
            reason = f"it is version {library.version()}, wanted is {version}"
        elif hasattr(library, "runs_here") and not library.runs_here():
            reason = "it is built for processors that can do more"
    except (OSError, AttributeError) as error:
        reason = str(error)
    if reason:
        log.info(instead, reason=reason, faster="make setup builds the compiled kernel")
        return None
    return library
