"""Processes of a benchmark that fail or hang are ended and named."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from benchmarks.ranks import run_alone


def test_what_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    """As horovodrun's ranks, the child is in a process group of its own."""
    note = tmp_path / "pid"
    hang = (
        "import pathlib, subprocess; child = subprocess.Popen(['sleep', '600'], start_new_session=True); "
        f"pathlib.Path('{note}').write_text(str(child.pid)); child.wait()"
    )
    with pytest.raises(RuntimeError, match="was killed after 10 s"):
        run_alone("timeit", ["-n1", "-r1", hang], threads=1, timeout_seconds=10)
    child = int(note.read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_what_fails_is_told_with_the_last_that_it_said() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ended with 1: .*ZeroDivisionError"):
        run_alone("timeit", ["-n1", "1/0"], threads=1, timeout_seconds=60)
    assert "1 loop" in run_alone("timeit", ["-n1", "1+1"], threads=1, timeout_seconds=60)
