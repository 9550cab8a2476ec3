"""The processes that a benchmark measures: one alone, or several under horovodrun on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from recsys.config.places import CHECKOUT

LAST_CHARACTERS = 4000
KILLED_SECONDS = 10.0
"""Until a killed process is gone."""


def run_alone(
    module: str, arguments: Sequence[str], *, threads: int, timeout_seconds: float
) -> str:
    """What ``python -m module`` says, in a process of its own.

    Raises:
        RuntimeError: it failed or took longer than ``timeout_seconds``; with the last of what it said.
    """
    return _run([sys.executable, "-m", module, *arguments], threads, timeout_seconds)


def run_ranks(
    module: str, arguments: Sequence[str], size: int, *, threads: int, timeout_seconds: float
) -> str:
    """The same on ``size`` Horovod ranks, each of so many threads; Horovod puts the rank before each line.

    Raises:
        RuntimeError: a rank failed, or all were killed after ``timeout_seconds``.
    """
    horovodrun = Path(sys.executable).parent / "horovodrun"
    command = [
        sys.executable, str(horovodrun), "-np", str(size), "-H", f"localhost:{size}", "--gloo",
        "--network-interfaces", "lo", sys.executable, "-m", module, *arguments,
    ]  # fmt: skip
    return _run(command, threads, timeout_seconds)


def _run(command: Sequence[str], threads: int, timeout_seconds: float) -> str:
    waits = str(round(timeout_seconds))
    settings = {
        "HOROVOD_LISTEN_ADDRESS": "127.0.0.1", "HOROVOD_GLOO_TIMEOUT_SECONDS": waits,
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": waits, "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "PYTHONPATH": str(CHECKOUT),
    }  # fmt: skip
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        started = subprocess.Popen(
            command, env={**os.environ, **settings}, cwd=CHECKOUT, stdout=output, stderr=subprocess.STDOUT
        )  # fmt: skip
        try:
            ended = f"ended with {started.wait(timeout_seconds)}"
        except subprocess.TimeoutExpired:
            ended = f"was killed after {timeout_seconds:.0f} s"
        finally:
            _kill(started)
        output.seek(0)
        said = output.read()
    if ended != "ended with 0":
        raise RuntimeError(f"{' '.join(command)} {ended}: {said[-LAST_CHARACTERS:]}")
    return said


def _kill(started: subprocess.Popen[bytes]) -> None:
    """With all that it started: ranks are in process groups of their own."""
    if started.poll() is not None:
        return
    family = psutil.Process(started.pid).children(recursive=True)
    started.kill()
    started.wait()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=KILLED_SECONDS)
