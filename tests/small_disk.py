"""A disk that fills up: a command run with a small file system of its own under one folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

MOUNT_AND_RUN = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


def run_on_small_disk(
    command: Sequence[str], folder: Path, *, megabytes: int, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` while ``folder`` is a disk of ``megabytes``, which is gone when it ends.

    ``env`` is added to this process's environment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shell = ["bash", "-c", MOUNT_AND_RUN, "mount-and-run", f"{megabytes}m", str(folder)]
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", *shell, *command],
        env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
