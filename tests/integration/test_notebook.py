"""The notebook runs from its first cell to its last over a published night."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from recsys.config import RecsysConfig

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.spark
@pytest.mark.horovod
@pytest.mark.timeout(1800)
def test_the_notebook_runs(first_night: RecsysConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = jupytext.read(CHECKOUT / "notebooks" / "first_look.py")
    monkeypatch.setenv("RECSYS_PATHS__ROOT", first_night.paths.root)
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(CHECKOUT)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    charts = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(charts) == 4
