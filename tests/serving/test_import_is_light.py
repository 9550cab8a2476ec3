"""A lookup host has no JVM and no torch: importing the service must not want them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.setup.conftest import CHECKOUT

HEAVY = {"pyspark", "torch", "horovod", "petastorm", "mlflow", "onnxruntime", "pyarrow", "pandas"}

LIST_MODULES = """
import importlib, json, sys
for name in {names!r}:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def loaded_by(*names: str) -> set[str]:
    """The top-level packages that a fresh interpreter holds after these imports."""
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES.format(names=names)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {module.partition(".")[0] for module in json.loads(done.stdout)}


@pytest.mark.parametrize(
    "names",
    [
        ("recsys.config", "recsys.contracts"),
        ("recsys.cli",),
        ("recsys.serving.app", "recsys.serving.server"),
    ],
    ids=lambda names: names[-1],
)
def test_the_import_brings_no_engine(names: tuple[str, ...]) -> None:
    assert loaded_by(*names) & HEAVY == set()


def test_a_process_that_checks_a_release_brings_no_configuration() -> None:
    brought = loaded_by("recsys.release.check")
    assert "lmdb" in brought
    assert not brought & {
        "pydantic",
        "yaml",
        "structlog",
    }  # they take five times as long as the rest


def test_the_question_finds_an_engine_where_there_is_one() -> None:
    assert "pyarrow" in loaded_by("pyarrow")
