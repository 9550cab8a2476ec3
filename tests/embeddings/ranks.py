"""Run a module once per rank under Horovod, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from recsys.training.launch import process_environment
from tests.training.worlds import tiny_training

CHECKOUT = Path(__file__).resolve().parents[2]


def run_ranks(module: str, size: int, folder: Path) -> None:
    """``python -m module FOLDER`` on ``size`` ranks; an error of one fails the test with what was said."""
    horovodrun = Path(sys.executable).parent / "horovodrun"
    done = subprocess.run(
        [
            sys.executable, str(horovodrun), "-np", str(size), "-H", f"localhost:{size}", "--gloo",
            "--network-interfaces", "lo", sys.executable, "-m", module, str(folder),
        ],
        env={**os.environ, **process_environment(tiny_training()), "PYTHONPATH": str(CHECKOUT)},
        cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
