"""What the engine of the encoder does beside computing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_the_engine_reports_nothing_to_its_maker(tmp_path: Path) -> None:
    """Its reporter leaves a device id under the home folder, from the import on."""
    suppressed = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME"}
    environ = {name: value for name, value in os.environ.items() if name not in suppressed}
    subprocess.run(
        [sys.executable, "-c", "import recsys.scoring.encoder"],
        env=environ | {"HOME": str(tmp_path)}, check=True, timeout=60,
    )  # fmt: skip
    assert not list(tmp_path.rglob("*"))
