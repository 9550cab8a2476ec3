"""`make notebook` runs the notebook from its first cell to its last over a published night."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from recsys.config import RecsysConfig

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.spark
@pytest.mark.horovod
@pytest.mark.timeout(1800)
def test_make_notebook_draws_every_chart(first_night: RecsysConfig, tmp_path: Path) -> None:
    result = tmp_path / "first_look.ipynb"
    answer = subprocess.run(
        ["make", "notebook", f"NOTEBOOK={result}"], cwd=CHECKOUT,
        env=os.environ | {"RECSYS_PATHS__ROOT": first_night.paths.root},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    cells = json.loads(result.read_bytes())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    charts = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(charts) == 4
