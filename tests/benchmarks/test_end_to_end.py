"""The benchmark of a whole night: each step's share, and the service's start, of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import end_to_end
from recsys.config.places import PathsConfig
from recsys.release.pointer import live_release
from recsys.runner.pipeline import STEPS
from tests.benchmarks.result_lines import LIMITS, have_limits, results
from tests.integration.nights import NIGHT, TINY

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TINY_NIGHT = end_to_end.Size(users=300, items=80, events=24_000, run_date=str(NIGHT), others=TINY)


def test_shares_are_of_the_night_and_the_service_without_the_generator(
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = [
        {"step": "generate_shop", "seconds": 50.0, "peak_memory_mb": 1},
        {"step": "ingest", "seconds": 30.0, "peak_memory_mb": 2},
        {"step": "train", "seconds": 50.0, "peak_memory_mb": 9},
    ]
    whole = {"step": "whole", "seconds": 96.0, "peak_memory_mb": 10}

    end_to_end.report(steps, whole, 4.0, {"cores": 2}, LIMITS)

    lines = results(capsys.readouterr().out)
    assert all(line["limits"] == LIMITS for line in lines)
    assert {line["case"]: line.get("share") for line in lines} == {
        "ingest": 0.3, "train": 0.5, "Spark's start and end": 0.16, "service's start": 0.04,
        end_to_end.WHOLE: None,
    }  # fmt: skip
    assert (lines[-1]["seconds"], lines[-1]["peak_memory_mb"]) == (100.0, 10)


def test_quick_is_the_two_ends_and_says_nothing_of_the_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def whole_night(*_: Any) -> None:
        raise AssertionError("takes two cores minutes")

    def ends(*_: Any) -> Any:
        ingest = {"step": "ingest", "seconds": 30.0, "peak_memory_mb": 2}
        return [ingest], {"seconds": 36.0, "peak_memory_mb": 3}

    def answers(root: Path) -> float:
        assert live_release(PathsConfig(root=str(root / "var"))) is not None
        return 1.0

    monkeypatch.setattr(end_to_end, "CHECKOUT", tmp_path)
    monkeypatch.setattr(end_to_end, "night", whole_night)
    monkeypatch.setattr(end_to_end, "beginning", ends)
    monkeypatch.setattr(end_to_end, "first_answer", answers)

    end_to_end.main(["--quick"])

    lines = results(capsys.readouterr().out)
    assert [(line["case"], line["seconds"]) for line in lines] == [
        ("ingest", 30.0), ("Spark's start and end", 6.0), ("service's start", 1.0),
        (end_to_end.ENDS, 37.0),
    ]  # fmt: skip
    assert not any("share" in line for line in lines)


@pytest.mark.spark
def test_the_two_ends_are_run_and_measured(
    spark: SparkSession, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    end_to_end.run(tmp_path, end_to_end.QUICK, quick=True)

    lines = results(capsys.readouterr().out)
    assert [line["case"] for line in lines] == [
        "ingest", "Spark's start and end", "service's start", end_to_end.ENDS,
    ]  # fmt: skip
    ingest, _, service, ends = lines
    assert ingest["seconds"] > 0 and service["seconds"] > 0 and ends["peak_memory_mb"] > 0
    assert have_limits(lines, *LIMITS)


@pytest.mark.spark
@pytest.mark.slow
def test_every_step_of_a_whole_night_is_run_and_measured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    end_to_end.run(tmp_path, TINY_NIGHT, quick=False)

    lines = results(capsys.readouterr().out)
    assert [line["case"] for line in lines] == [
        *STEPS, "Spark's start and end", "service's start", end_to_end.WHOLE,
    ]  # fmt: skip
    assert sum(line["share"] for line in lines[:-1]) == pytest.approx(1, abs=0.02)
    assert all(line["seconds"] > 0 and line["peak_memory_mb"] > 0 for line in lines[: len(STEPS)])
    assert have_limits(lines, *LIMITS)
