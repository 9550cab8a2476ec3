"""Checks on several ranks of this machine, each a process, under Horovod or torch.distributed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from recsys.embeddings import Comm, HorovodComm, TorchComm

CHECKOUT = Path(__file__).resolve().parents[2]
Check = Callable[[Comm, Path], None]
SETTINGS = {
    "HOROVOD_LISTEN_ADDRESS": "127.0.0.1",
    "HOROVOD_GLOO_TIMEOUT_SECONDS": "60",
    "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "60",
    "HOROVOD_STALL_CHECK_TIME_SECONDS": "30",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(CHECKOUT),
}


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
    horovodrun = Path(sys.executable).parent / "horovodrun"
    done = subprocess.run(
        [
            sys.executable, str(horovodrun), "-np", str(size), "-H", f"localhost:{size}", "--gloo",
            "--network-interfaces", "lo", sys.executable, "-m", module, str(folder),
        ],
        env={**os.environ, **SETTINGS}, cwd=CHECKOUT, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def _under_torch(module: str, size: int, folder: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(folder), str(rank), str(size)],
            env={**os.environ, **SETTINGS}, cwd=CHECKOUT, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    said = [rank.communicate(timeout=300)[0][-2000:] for rank in ranks]
    assert not any(rank.returncode for rank in ranks), "\n".join(said)
