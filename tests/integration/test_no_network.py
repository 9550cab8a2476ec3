"""After set-up nothing needs a network."""

from __future__ import annotations

import subprocess

import pytest

from recsys.config import RecsysConfig
from recsys.release.pointer import live_release
from tests.integration.nights import NIGHT, without_network

PROBE = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"


@pytest.mark.spark
@pytest.mark.horovod
@pytest.mark.timeout(1800)  # the first to ask makes the night
def test_a_night_needs_no_network(first_night: RecsysConfig) -> None:
    """``first_night`` is submitted in a network namespace with loopback alone."""
    probe = subprocess.run(
        without_network(["python3", "-c", PROBE]), capture_output=True, text=True, check=False
    )
    if "Operation not permitted" in probe.stderr and "unshare" in probe.stderr:
        pytest.skip(
            "this machine lets nobody make a network namespace: the night ran with a network"
        )
    assert "Network is unreachable" in probe.stderr, "the namespace has a way out"
    release = live_release(first_night.paths)
    assert release is not None and release.run_date == NIGHT
