"""A disk that fills up in the middle of a job's write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lake.test_kill import ENV, WRITER
from tests.small_disk import run_on_small_disk

pytestmark = pytest.mark.spark


def test_a_full_disk_is_said_and_the_table_is_as_before(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    done = run_on_small_disk([*WRITER, str(folder), "outgrow"], folder, megabytes=6, env=ENV)
    assert done.returncode == 1, done.stderr[-2000:]
    [said] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in said and "free some disk, then run again" in said
    assert done.stdout.splitlines() == ["acknowledged 1", "version 1, as before: True"]
