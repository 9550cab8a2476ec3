"""Horovod's servers are unauthenticated: on a machine with two interfaces they answer on one of them alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.config.places import CHECKOUT
from tests.training.fenced import EXPECTED_LISTENERS

OUTSIDE = "10.99.0.1"
LOOPBACK = "0100007F"  # 127.0.0.1 as the kernel writes it
TWO_INTERFACES = (
    "ip link set lo up && ip link add shop0 type veth peer name shop1 && "
    f"ip addr add {OUTSIDE}/24 dev shop0 && ip link set shop0 up && ip link set shop1 up && "
)


def in_namespace(command: list[str]) -> list[str]:
    script = f'{TWO_INTERFACES} exec "$@"'
    return ["unshare", "--map-root-user", "--net", "bash", "-c", script, "fenced", *command]


@pytest.mark.horovod
def test_rendezvous_and_ranks_answer_on_the_training_network_alone(tmp_path: Path) -> None:
    able = subprocess.run(in_namespace(["true"]), capture_output=True, text=True, check=False)
    if able.returncode:
        pytest.skip(f"no network namespace with two interfaces here: {able.stderr.strip()[:200]}")
    command = [sys.executable, "-m", "tests.training.fenced", str(tmp_path), OUTSIDE]
    done = subprocess.run(
        in_namespace(command), cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["control"], "a server open to all is reached from outside"
    assert found["fits"] == 2
    # The rendezvous, and what the two ranks listen on for each other.
    assert found["of_one_launch"] >= EXPECTED_LISTENERS
    assert set(found["addresses"]) == {LOOPBACK}
    assert found["reached"] == []
