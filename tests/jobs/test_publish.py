"""The job publish as the scheduler runs it, killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from recsys.config.places import PathsConfig
from recsys.release.pointer import live_release, release_folder
from recsys.release.snapshot import open_release
from tests.release.making import make_release
from tests.release.shop import RUN_DATE, write_scoring_record, write_shop

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.spark


def publish(paths: PathsConfig, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable, CHECKOUT / "jobs" / "publish.py", "--run-date", str(RUN_DATE),
            "--set", f"paths.root={paths.root}", "--set", "spark.driver_memory=1g",
        ],
        env={**os.environ, "RECSYS_FAILPOINT": failpoint, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def test_kill_9_before_the_pointer_leaves_the_old_release_and_the_next_run_completes(
    tmp_path: Path,
) -> None:
    paths = PathsConfig(root=str(tmp_path))
    write_shop(Path(paths.lake_uri))
    write_scoring_record(paths)
    old = make_release(paths, date(2024, 5, 31))

    killed = publish(paths, "publish:before-pointer")

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "failpoint publish:before-pointer" in killed.stderr
    assert live_release(paths) == old

    done = publish(paths)

    assert done.returncode == 0, done.stderr
    live = live_release(paths)
    assert live is not None
    assert live.run_date == RUN_DATE
    open_release(release_folder(paths, live.release_id)).close()
