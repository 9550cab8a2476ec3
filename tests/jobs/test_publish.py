"""The job publish on its command line; tests/release and tests/integration run and kill it."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from jobs.publish import JOB, app
from recsys.contracts import TABLES


def test_a_dry_run_names_what_would_be_read_and_written_and_touches_nothing(
    tmp_path: Path,
) -> None:
    root = tmp_path / "var"
    arguments = ["--run-date", "2024-06-01", "--set", f"paths.root={root}", "--dry-run"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "# publish of 2024-06-01" in result.stdout
    assert f"in      {root}/lake" in result.stdout
    assert not root.exists()
    named = {name for name in (*JOB.reads, *JOB.writes) if "/" not in name}
    assert named <= set(TABLES)
