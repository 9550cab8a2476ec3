"""Checks on several ranks of this machine, each a process, under Horovod or torch.distributed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from benchmarks.ranks import run_ranks
from recsys.config.places import CHECKOUT
from recsys.embeddings import Comm, HorovodComm, TorchComm

Check = Callable[[Comm, Path], None]
TIMEOUT_SECONDS = 300


def assert_passed(checks: Sequence[Check], module: str, kind: str, size: int, folder: Path) -> None:
    """Run ``python -m module`` once per rank: every rank passes every check, and listens on loopback alone."""
    {"horovod": _under_horovod, "torch": _under_torch}[kind](module, size, folder)
    for rank in range(size):
        found = json.loads((folder / f"passed-{rank}.json").read_text())
        assert found["size"] == size
        assert found["passed"] == [check.__name__ for check in checks]
        assert set(found["listens_on"]) <= {"127.0.0.1"}


def run_checks(checks: Sequence[Check]) -> None:
    """One rank: ``FOLDER`` under Horovod, ``FOLDER RANK SIZE`` under torch.distributed."""
    folder = Path(sys.argv[1])
    comm: Comm
    if len(sys.argv) == 2:
        comm = HorovodComm()
    else:
        rank, size = map(int, sys.argv[2:])
        comm = TorchComm(rank=rank, size=size, meeting=folder / "meeting", timeout_seconds=60)
    passed = []
    for check in checks:
        check(comm, folder)
        comm.barrier()
        passed.append(check.__name__)
    open_ports = psutil.Process().net_connections(kind="inet")
    listens_on = [port.laddr.ip for port in open_ports if port.status == psutil.CONN_LISTEN]
    found = {"size": comm.size, "passed": passed, "listens_on": listens_on}
    (folder / f"passed-{comm.rank}.json").write_text(json.dumps(found))
    if isinstance(comm, TorchComm):
        comm.close()


def _under_horovod(module: str, size: int, folder: Path) -> None:
    run_ranks(module, [str(folder)], size, threads=1, timeout_seconds=TIMEOUT_SECONDS)


def _under_torch(module: str, size: int, folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(folder), str(rank), str(size)],
            env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    said = [rank.communicate(timeout=TIMEOUT_SECONDS)[0][-2000:] for rank in ranks]
    assert not any(rank.returncode for rank in ranks), "\n".join(said)
