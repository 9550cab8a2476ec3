"""setup.py says what is needed, pins.txt what was proven, the lock what is installed: they agree."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.setup.conftest import CHECKOUT

SETUP = CHECKOUT / "deploy/setup"
NOT_ON_A_LAPTOP = {"onnxruntime-gpu"}  # the extra `gpu`, exclusive with `cpu`


def locked(lock: str = "requirements.lock") -> dict[str, str]:
    lines = (SETUP / lock).read_text().splitlines()
    pairs = (re.match(r"([a-z0-9][a-z0-9.-]*)==([^ ;]+)", line) for line in lines)
    return {pair[1]: pair[2] for pair in pairs if pair}


def declared() -> Iterator[Requirement]:
    """Every requirement of setup.py, extras included."""
    code = (CHECKOUT / "setup.py").read_text().split("\nsetup(")[0]
    names: dict[str, list[str]] = {}
    exec(code.replace("from setuptools import find_packages, setup", ""), names)
    for group in ("CONFIG", "BATCH", "SERVING", "DEV"):
        yield from map(Requirement, names[group])
    yield Requirement("onnxruntime>=1.20")


def test_the_lock_has_a_version_that_fits_for_all_that_setup_py_asks_for() -> None:
    versions = locked()
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in the lock: run `make lock`"
        assert versions[name] in requirement.specifier, f"{requirement} but {versions[name]} locked"


def test_what_was_proven_is_what_is_locked() -> None:
    pins = re.findall(r"^([a-z][\w-]*)==(\S+)", (SETUP / "pins.txt").read_text(), re.MULTILINE)
    assert len(pins) >= 9
    versions = locked()
    for name, version in pins:
        assert versions[canonicalize_name(name)] == version


def test_mlflows_ui_reads_the_store_with_the_version_that_writes_it() -> None:
    assert locked("mlflow.lock")["mlflow"] == locked()["mlflow-skinny"]


@pytest.mark.parametrize(("lock", "fewest"), [("requirements.lock", 100), ("mlflow.lock", 50)])
def test_every_locked_package_has_hashes(lock: str, fewest: int) -> None:
    text = (SETUP / lock).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) > fewest
    for entry in entries:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_horovod_and_only_horovod_is_left_to_its_own_step() -> None:
    def split(*options: str) -> list[str]:
        script = SETUP / "lock-without-horovod.sh"
        done = subprocess.run([script, *options], capture_output=True, text=True, check=True)
        return re.findall(r"^([a-z0-9][a-z0-9.-]*)==", done.stdout, re.MULTILINE)

    assert split("--only") == ["horovod"]
    assert sorted([*split(), "horovod"]) == sorted(locked())


def test_the_patch_is_for_the_locked_horovod() -> None:
    assert Path(SETUP / f"horovod-{locked()['horovod']}.patch").exists()
