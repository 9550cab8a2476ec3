"""A checkout of one's own: the real set-up scripts, over steps and tools that the test decides."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
STEPS = ("uv", "packages", "jars", "horovod", "project", "kernel")

# What each step leaves behind, by which setup.sh sees that it is there.
RESULTS = {
    "uv": ".cache/uv/bin/uv",
    "packages": ".venv/bin/python",
    "jars": ".cache/jars/delta.jar",
    "horovod": ".venv/lib/python3.11/site-packages/horovod/torch/mpi_lib_v2.so",
    "project": ".venv/bin/recsys",
    "kernel": "recsys/librowhashes.so recsys/release/libencode.so recsys/embeddings/librows.so "
    "recsys/scoring/libselect.so",
}


@dataclass
class Sandbox:
    """A folder with the set-up in it, and programs that stand before the machine's on the PATH."""

    root: Path
    environment: dict[str, str]

    def run(self, script: str = "setup.sh") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "deploy/setup" / script],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self) -> subprocess.Popen[str]:
        """The set-up in a process group of its own, so that a test can kill all of it."""
        return subprocess.Popen(
            [self.root / "deploy/setup/setup.sh"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def step(self, name: str, body: str = "") -> None:
        """Replace a step by one that notes its run in ``ran``, does ``body``, and leaves its results."""
        leave = "".join(
            f"mkdir -p {Path(result).parent}; printf {name} >{result}; chmod +x {result}\n"
            for result in RESULTS[name].split()
        )
        self.program(
            self.root / f"deploy/setup/steps/{name}.sh",
            f"set -e; echo {name} >>ran; {body or ':'}\n{leave}",
        )

    def tool(self, name: str, body: str) -> Path:
        """A program that is found before the machine's own of that name."""
        return self.program(self.root / "tools" / name, body)

    @staticmethod
    def program(path: Path, body: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
        return path

    def ran(self) -> list[str]:
        """The steps that have run since the last call, in order."""
        log = self.root / "ran"
        steps = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return steps

    def stamps(self) -> dict[str, tuple[str, int]]:
        """Each stamp's text and time."""
        stamps = (self.root / ".cache/stamps").glob("*")
        return {path.name: (path.read_text(), path.stat().st_mtime_ns) for path in stamps}


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    root = tmp_path / "a checkout"  # a space in the path, as people have it
    shutil.copytree(CHECKOUT / "deploy/setup", root / "deploy/setup")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, root / name)
    for source in (
        "recsys/row_hashes.cpp",
        "recsys/release/encode.cpp",
        "recsys/embeddings/rows.cpp",
        "recsys/scoring/select.cpp",
        *(str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob("recsys/scoring/*.h")),
    ):
        (root / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / source, root / source)
    (root / "tools").mkdir()
    digest = hashlib.sha256(b"jars").hexdigest()
    (root / "deploy/setup/jars.sha256").write_text(f"{digest}  delta.jar\n")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RECSYS_", "SETUP_", "JAVA_", "HOROVOD_", "MAKE", "GIT_"))
    }
    environment = {**inherited, "PATH": f"{root / 'tools'}:{os.environ['PATH']}"}
    made = Sandbox(root, environment)
    for name in STEPS:
        made.step(name)
    return made


@pytest.fixture
def java_home(tmp_path: Path) -> Callable[[str], Path]:
    """Makes the home of a Java that says it is of the given version."""

    def make(version: str) -> Path:
        home = tmp_path / f"java-{version}"
        Sandbox.program(home / "bin/java", f"echo 'openjdk version \"{version}\"' >&2")
        return home

    return make


@pytest.fixture
def only_tools(tmp_path: Path) -> Callable[[Iterable[str]], str]:
    """Makes a PATH on which nothing is found but the programs named."""

    def make(names: Iterable[str]) -> str:
        folder = tmp_path / "only"
        folder.mkdir()
        for name in names:
            found = shutil.which(name)
            assert found, name
            (folder / name).symlink_to(found)
        return str(folder)

    return make
