"""A library that cannot be used is refused, and training runs without it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import torch
from structlog.testing import capture_logs

from recsys.embeddings.compiled_rows import row_ops
from recsys.embeddings.device import CPU
from recsys.embeddings.kernel import VERSION, kernel
from recsys.embeddings.rows import TorchRows


def test_without_the_library_training_runs_in_torch_and_says_so(tmp_path: Path) -> None:
    with capture_logs() as lines:
        assert kernel(tmp_path / "librows.so") is None
    assert [line["event"] for line in lines] == ["embeddings_in_torch"]
    assert isinstance(row_ops(torch.float64, CPU), TorchRows)


def test_a_library_of_another_version_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "old.cpp"
    source.write_text('extern "C" long version() { return 0; }\n')
    library = tmp_path / "old.so"
    compiler = shutil.which("g++")
    assert compiler
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
    with capture_logs() as lines:
        assert kernel(library) is None
    assert f"it is version 0, wanted is {VERSION}" in str(lines)
