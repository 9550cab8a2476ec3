"""What `spark-submit.sh` does before there is a JVM."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def submit(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [str(CHECKOUT / "spark-submit.sh"), *arguments]
    return subprocess.run(
        command, env=os.environ | environ, capture_output=True, text=True, check=False, timeout=120
    )


def test_help_lists_every_job_with_its_first_line() -> None:
    answer = submit("--help")
    assert answer.returncode == 0
    for path in (CHECKOUT / "jobs").glob("[a-z]*.py"):
        assert path.stem in answer.stdout


def test_an_unknown_job_names_the_nearest_and_exits_2() -> None:
    answer = submit("build_feature")
    assert answer.returncode == 2
    assert "unknown job 'build_feature'; did you mean 'build_features'?" in answer.stderr


def test_an_environment_whose_settings_are_missing_says_which() -> None:
    answer = submit("build_features", "--env", "cluster", "--run-date", "2010-12-10")
    assert answer.returncode == 2
    assert "environment 'cluster' is missing" in answer.stderr
    assert "spark.master" in answer.stderr


def test_a_run_date_in_the_wrong_form_exits_2() -> None:
    answer = submit("build_features", "--run-date", "10.12.2010", "--dry-run")
    assert answer.returncode == 2
    assert "--run-date takes a day such as 2010-12-10, got '10.12.2010'" in answer.stderr


def test_a_dry_run_shows_everything_and_touches_nothing(tmp_path: Path) -> None:
    root = tmp_path / "var"
    answer = submit(
        "build_features", "--run-date", "2010-12-10", "--set", f"paths.root={root}", "--dry-run"
    )
    assert answer.returncode == 0, answer.stderr
    assert "bin/spark-submit --master 'local[2]'" in answer.stdout
    assert "reads   " in answer.stdout and "writes  " in answer.stdout
    assert str(root) in answer.stdout
    assert not root.exists()


def test_java_missing_or_of_the_wrong_version_is_said_before_spark_starts(tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    answer = submit(
        "build_features", "--run-date", "2010-12-10",
        JAVA_HOME=str(tmp_path), SETUP_JVM_DIRS="", PATH=f"{java.parent}:/usr/bin:/bin",
    )  # fmt: skip
    if answer.returncode == 0:
        pytest.fail("a job ran on Java 11")
    assert "Java 17 is needed; found only:" in answer.stderr
    assert "Java 11" in answer.stderr
