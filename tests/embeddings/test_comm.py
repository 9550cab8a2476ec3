"""The contract suite over every Comm: in this process, and on two ranks of Horovod."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys.embeddings import Comm, LocalComm
from recsys.training.launch import process_environment
from tests.embeddings.comm_contract import CHECKS
from tests.training.worlds import tiny_training

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_one_process(check: Callable[[Comm, Path], None], tmp_path: Path) -> None:
    check(LocalComm(), tmp_path)


@pytest.mark.horovod
def test_two_ranks_of_horovod(tmp_path: Path) -> None:
    horovodrun = Path(sys.executable).parent / "horovodrun"
    done = subprocess.run(
        [
            sys.executable, str(horovodrun), "-np", "2", "--gloo", "--network-interfaces", "lo",
            sys.executable, "-m", "tests.embeddings.comm_contract", str(tmp_path),
        ],
        env={**os.environ, **process_environment(tiny_training()), "PYTHONPATH": str(CHECKOUT)},
        cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    wanted = [2, [check.__name__ for check in CHECKS]]
    for rank in range(2):
        assert json.loads((tmp_path / f"passed-{rank}.json").read_text()) == wanted
