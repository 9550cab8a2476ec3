"""Programs of the system that tests need; the set-up installs them (deploy/setup/system-packages.txt)."""

from __future__ import annotations

import os
import shutil

import pytest


def installed(program: str) -> str:
    """Its path. Without it the test is skipped, except where the set-up can install it: as root on Debian."""
    path = shutil.which(program)
    if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        pytest.fail(
            f"no {program}: run `make setup`, which installs what system-packages.txt lists"
        )
    if path is None:
        pytest.skip(f"needs {program}: deploy/setup/system-packages.txt names its package")
    return path
