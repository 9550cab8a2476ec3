"""Which code this is."""

from __future__ import annotations

import subprocess
from pathlib import Path


def checkout_commit() -> str:
    """The checkout's commit, '-dirty' with local changes; empty where git knows none."""
    checkout = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
