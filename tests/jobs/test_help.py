"""What each job says of itself must not drift unseen: `make regold` rewrites, the diff is reviewed."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

CHECKOUT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
JOBS = sorted(path.stem for path in (CHECKOUT / "jobs").glob("[a-z]*.py"))


@pytest.mark.golden
@pytest.mark.parametrize("job", JOBS)
def test_help_is_the_golden_one(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    app = importlib.import_module(f"jobs.{job}").app
    answer = CliRunner().invoke(app, ["--help"], prog_name=job, terminal_width=100)
    assert answer.exit_code == 0
    assert "\n  Reads  " in answer.stdout and "\n  Writes  " in answer.stdout, (
        "on lines of their own"
    )
    golden = GOLDEN / f"{job}.txt"
    if os.environ.get("REGOLD"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(answer.stdout)
    assert answer.stdout == golden.read_text(), (
        f"{job} --help changed: `make regold`, then review the diff"
    )


@pytest.mark.parametrize("job", JOBS)
def test_a_job_is_short_and_says_what_it_reads_and_writes(job: str) -> None:
    text = (CHECKOUT / "jobs" / f"{job}.py").read_text()
    doc = importlib.import_module(f"jobs.{job}").__doc__ or ""
    assert f"./spark-submit.sh {job}" in doc
    assert "\nReads" in doc and "\nWrites" in doc
    code = text.split('"""')[2]
    assert len(code.splitlines()) <= 60, "logic belongs in recsys/"
