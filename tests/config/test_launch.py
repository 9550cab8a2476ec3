"""What `spark-submit.sh` does before there is a JVM."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from recsys.config import RecsysConfig, launch
from recsys.config.launch import archive_path, package_code, submit_command
from recsys.config.places import SparkConfig

CHECKOUT = Path(__file__).parents[2]


def submit(
    *arguments: str, cwd: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    command = [str(CHECKOUT / "spark-submit.sh"), *arguments]
    return subprocess.run(
        command, env=os.environ | environ, cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip


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


def test_a_job_s_help_needs_no_settings() -> None:
    answer = submit("build_features", "--env", "cluster", "--help")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("Usage: ./spark-submit.sh build_features")


def test_a_run_date_in_the_wrong_form_exits_2() -> None:
    answer = submit("build_features", "--run-date", "10.12.2010", "--dry-run")
    assert answer.returncode == 2
    assert "--run-date takes a day such as 2010-12-10, got '10.12.2010'" in answer.stderr
    assert not answer.stdout, "no plan of a run that would fail"


def test_a_missing_option_names_the_command_that_was_typed() -> None:
    answer = submit("train", "--dry-run")
    assert answer.returncode == 2
    assert "Try './spark-submit.sh train --help' for help" in answer.stderr


def test_a_class_in_the_folder_that_a_job_is_called_from_is_found(tmp_path: Path) -> None:
    (tmp_path / "shop_of_theirs.py").write_text(
        "from recsys.recommenders.popularity import Popularity"
    )
    (tmp_path / "recsys.py").write_text("raise ImportError('ours comes first')")
    own = "shop_of_theirs:Popularity"
    answer = submit("compare", "--models", f"{own},item_item", "--dry-run", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert f"\nmodels  {own}, item_item\n" in answer.stdout


def test_a_file_is_looked_for_in_the_folder_that_a_job_is_called_from(tmp_path: Path) -> None:
    (tmp_path / "shop.txt").write_text("1 5 6 7\n2 6 7 5\n3 7 5 6\n")
    answer = submit("benchmark_leave_one_out", "--data", "shop.txt", "--dry-run", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    missing = submit("benchmark_leave_one_out", "--data", "shup.txt", "--dry-run", cwd=tmp_path)
    assert missing.returncode and f"no file {tmp_path / 'shup.txt'}" in missing.stderr


def test_a_dry_run_shows_everything_and_touches_nothing(tmp_path: Path) -> None:
    root = tmp_path / "var"
    answer = submit(
        "build_features", "--run-date", "2010-12-10", "--set", f"paths.root={root}", "--dry-run"
    )
    assert answer.returncode == 0, answer.stderr
    assert "bin/spark-submit --master 'local[2]'" in answer.stdout
    assert "reads   " in answer.stdout and "writes  " in answer.stdout
    command = answer.stdout.splitlines()[-1]
    assert "--dry-run" not in command and command.startswith('JAVA_HOME="$(')
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


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of two files."""
    for name in ("recsys/errors.py", "jobs/ingest.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(f"NAME = {name!r}\n")
    monkeypatch.setattr(launch, "CHECKOUT", tmp_path)
    return tmp_path


def test_the_code_s_archive_is_named_by_its_content_and_never_rewritten(code: Path) -> None:
    work = code / "var" / "work"
    first = archive_path(work)
    package_code(first)
    assert zipfile.ZipFile(first).namelist() == ["jobs/ingest.py", "recsys/errors.py"]
    written = first.stat()
    package_code(archive_path(work))
    same = first.stat()
    assert (same.st_ino, same.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)

    (code / "jobs" / "ingest.py").write_text("NAME = 'changed'\n")
    second = archive_path(work)
    package_code(second)
    assert second != first
    assert sorted(work.iterdir()) == sorted([first, second]), "nothing half written is left"


def test_a_packaging_that_is_cut_off_leaves_no_archive(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    target = archive_path(code / "var" / "work")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(zipfile.ZipFile, "write", full)
        package_code(target)
    assert not target.exists()


def test_packaged_code_is_submitted_under_the_name_it_is_written_to(config: RecsysConfig) -> None:
    packaged = config.model_copy(update={"spark": SparkConfig(packaged_code=True)})
    command = submit_command("ingest", [], packaged)
    assert command[command.index("--py-files") + 1] == str(archive_path(packaged.paths.work))
