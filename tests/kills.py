"""Kill -9 of a job between its first data file and its commit, with proof that it landed there.

    killed = run_and_kill(["./spark-submit.sh", "build_features", "--run-date", "2024-06-01"], lake / "histories")

The job runs in a session of its own. A watcher polls the table's folder; as soon as a data file appears that
was not there before, every process of the job is stopped, so that nothing moves while the log is read. If no
commit names the file, the job is killed: the fault has landed. If the commit was faster, it is killed all
the same, the caller's ``restore`` runs, and the next attempt begins.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import psutil

POLL_SECONDS = 0.001
LOOK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Killed:
    """What was found while every process of the job stood still, just before it was killed."""

    uncommitted_files: tuple[str, ...]
    """Data files of this run, with bytes in them, that no commit names; never empty."""
    version: int
    """The table's newest version then; -1 where there was no log yet."""
    attempts: int
    """1, or more where a commit was faster than the watcher."""


def run_and_kill(
    command: Sequence[str],
    table: Path,
    *,
    env: Mapping[str, str] | None = None,
    restore: Callable[[], object] = lambda: None,
    attempts: int = 5,
    timeout_seconds: float = 300,
) -> Killed:
    """Start ``command`` and kill it between the first data file of ``table`` and its commit.

    ``env`` is added to this process's environment. The command's output is passed on.

    Raises:
        AssertionError: the command ended by itself without a data file, nothing came within
            ``timeout_seconds``, or the commit won ``attempts`` times.
    """
    for attempt in range(1, attempts + 1):
        before = set(_data_files(table))
        job = subprocess.Popen(command, env={**os.environ, **(env or {})}, start_new_session=True)
        try:
            known = _wait_for_data_file(job, table, before, timeout_seconds)
            _stop(job.pid, known)
            uncommitted = set(_data_files(table)) - before - _committed_files(table)
            version = newest_version(table)
        finally:
            _kill(job.pid)
            job.wait()
        if uncommitted:
            return Killed(tuple(sorted(uncommitted)), version, attempt)
        restore()
    raise AssertionError(
        f"the commit to {table} was faster than the watcher in all {attempts} attempts"
    )


def newest_version(table: Path) -> int:
    """The newest version in the log of ``table``; -1 where there is none."""
    return max((int(path.stem) for path in _commits(table)), default=-1)


def _wait_for_data_file(
    job: subprocess.Popen[bytes], table: Path, before: set[str], timeout_seconds: float
) -> list[psutil.Process]:
    """Returns the job's processes, found beforehand: to look for them takes longer than a small commit."""
    deadline = time.monotonic() + timeout_seconds
    known, look_again = _processes(job.pid), time.monotonic() + LOOK_AGAIN_SECONDS
    while not set(_data_files(table)) - before:
        if time.monotonic() > look_again:
            known, look_again = _processes(job.pid), time.monotonic() + LOOK_AGAIN_SECONDS
        if job.poll() is not None:
            raise AssertionError(
                f"{job.args!r} ended with {job.returncode} before it wrote to {table}"
            )
        if time.monotonic() > deadline:
            raise AssertionError(f"{job.args!r} wrote nothing to {table} in {timeout_seconds} s")
        time.sleep(POLL_SECONDS)
    return known


def _data_files(folder: Path, prefix: str = "") -> Iterator[str]:
    """Paths, relative to the table, of data files that have content."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir():
            if entry.name != "_delta_log":
                yield from _data_files(Path(entry.path), f"{prefix}{entry.name}/")
        elif entry.name.endswith(".parquet"):
            try:
                size = entry.stat().st_size
            except FileNotFoundError:
                continue
            if size:
                yield prefix + entry.name


def _commits(table: Path) -> list[Path]:
    return [path for path in (table / "_delta_log").glob("*.json") if path.stem.isdigit()]


def _committed_files(table: Path) -> set[str]:
    """Every file that some commit added, as data or as change data."""
    names = set()
    for path in _commits(table):
        for line in path.read_text().splitlines():
            action = json.loads(line)
            for kind in ("add", "cdc"):
                if kind in action:
                    names.add(unquote(action[kind]["path"]))
    return names


def _processes(leader: int) -> list[psutil.Process]:
    """The job's processes: its session (Spark's Python daemon leaves the group, not the session)."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == leader or os.getsid(process.pid) == leader:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    return found


def _stop(leader: int, known: list[psutil.Process]) -> None:
    """Stop every process, the known ones first, and wait until the kernel says that each stands still."""
    for process in known:
        _signal(process, signal.SIGSTOP)
    processes = _processes(leader)
    for process in processes:
        _signal(process, signal.SIGSTOP)
    still = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    while any(process.is_running() and process.status() not in still for process in processes):
        time.sleep(POLL_SECONDS)


def _kill(leader: int) -> None:
    for process in _processes(leader):
        _signal(process, signal.SIGKILL)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except (psutil.NoSuchProcess, ProcessLookupError):
        pass
