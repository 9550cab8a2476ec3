"""The benchmark of a whole night: each step's share, and the service's start, of what was measured."""

from __future__ import annotations

import json

import pytest

from benchmarks import end_to_end


def test_shares_are_of_the_night_and_the_service_without_the_generator(
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = [
        {"step": "generate_shop", "seconds": 50.0, "peak_memory_mb": 1},
        {"step": "ingest", "seconds": 30.0, "peak_memory_mb": 2},
        {"step": "train", "seconds": 50.0, "peak_memory_mb": 9},
    ]
    whole = {"step": "whole", "seconds": 96.0, "peak_memory_mb": 10}

    end_to_end.report(steps, whole, 4.0, {"cores": 2})

    lines = [json.loads(line[7:]) for line in capsys.readouterr().out.splitlines()]
    assert {line["case"]: line.get("share") for line in lines} == {
        "ingest": 0.3, "train": 0.5, "Spark's start and end": 0.16, "service's start": 0.04,
        end_to_end.WHOLE: None,
    }  # fmt: skip
    assert (lines[-1]["seconds"], lines[-1]["peak_memory_mb"]) == (100.0, 10)
