"""Around every job: locks, exit codes, errors that say what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from pyspark.sql import SparkSession

from recsys.errors import MissingInput, Refused
from recsys.locks import exclusive
from recsys.runner import Job, running
from recsys.runner import job as job_module

JOB = Job("build_features", reads=("events",), writes=("histories",))


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    return [f"paths.root={tmp_path / 'var'}"]


@pytest.fixture
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends before Spark would start must not start it."""

    def fail(*_: object) -> Iterator[SparkSession]:
        raise AssertionError("a session was started")

    monkeypatch.setattr(job_module, "spark_session", fail)


def test_a_second_run_of_the_same_date_conflicts(
    tmp_path: Path, overrides: list[str], no_spark: None, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "var" / "locks" / "run-build_features-2010-12-10.lock"
    with exclusive(lock, wait=False, what="the first run"):
        with pytest.raises(typer.Exit) as exit_, running(JOB, "local", "2010-12-10", overrides):
            pytest.fail("the second run got in")
        assert exit_.value.exit_code == 75
    assert "build_features of 2010-12-10 is already running (process " in capsys.readouterr().err


@pytest.mark.spark
@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (MissingInput("no events: run ingest first"), 1, "error: no events: run ingest first"),
        (Refused("the day is short"), 3, "error: the day is short"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/lake/events"),
            1,
            "no space left on device (/lake",
        ),
    ],
)
def test_errors_become_exit_codes_and_one_line(
    spark: SparkSession, overrides: list[str], error: Exception, exit_code: int, said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(typer.Exit) as exit_, running(JOB, "local", "2010-12-10", overrides):
        raise error
    assert exit_.value.exit_code == exit_code
    assert said in capsys.readouterr().err


@pytest.mark.spark
def test_a_defect_of_ours_is_not_dressed_up(spark: SparkSession, overrides: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), running(JOB, "local", "2010-12-10", overrides):
        raise ZeroDivisionError


@pytest.mark.spark
def test_an_error_of_spark_is_its_cause_without_the_stack_trace(
    spark: SparkSession, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit), running(JOB, "local", "2010-12-10", overrides):
        spark.sql("select cast('x' as int)").collect()
    said = capsys.readouterr().err
    assert "'x'" in said and "CAST" in said.upper()
    assert "at org.apache" not in said


@pytest.mark.spark
def test_an_error_of_ours_on_a_worker_is_told_as_it_is_on_the_driver(
    spark: SparkSession, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches
        raise Refused("lists are refused:\n  user_id: ('ana',) comes after ('bo',)")

    with pytest.raises(typer.Exit) as exit_, running(JOB, "local", "2010-12-10", overrides):
        spark.range(1).mapInArrow(refuse, "id bigint").collect()
    assert exit_.value.exit_code == 3
    said = capsys.readouterr().err
    assert "error: lists are refused:\n  user_id: ('ana',) comes after ('bo',)\n" in said
    assert "Traceback" not in said and "JVM" not in said
