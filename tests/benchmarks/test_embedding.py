"""The benchmarks of the embedding tables at a tiny size: every condition is measured, and judged by targets.toml."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import embedding_step
from benchmarks.paired import TARGETS, Condition, ratios

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def results(said: str) -> dict[str, dict[str, object]]:
    found = [json.loads(line[7:]) for line in said.splitlines() if line.startswith("RESULT ")]
    return {str(line["case"]): line for line in found}


def test_the_conditions_of_one_process_are_measured_and_claim_nothing_at_another_size(
    capsys: pytest.CaptureFixture[str], threads_as_they_were: None
) -> None:
    size = embedding_step.Size(num_tables=3, rows=600, dim=8, batch=64)
    embedding_step.run(size, rounds=1, repeats=1)
    found = results(capsys.readouterr().out)
    wanted = {case: line["wanted"] for case, line in found.items()}
    assert wanted == {"EmbeddingBag(sparse) + SparseAdam": 5, "dense Adam": 20}
    assert all(
        (line["met"], line["rows"], line["batch"]) == (None, 600, 64) for line in found.values()
    )


@pytest.mark.horovod
def test_the_conditions_of_two_ranks_are_measured_and_claim_nothing_at_another_size() -> None:
    small = ["--rounds", "1", "--repeats", "2", "--rows", "120000", "--batch", "512"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.embedding_ranks", "--quick", *small],
        capture_output=True, text=True, timeout=200, check=False, cwd=CHECKOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = results(done.stdout)
    assert set(found) == set(tomllib.loads(TARGETS.read_text())["embedding_ranks"])
    assert all(line["met"] is None for line in found.values()), "the targets are about another size"
    wire = found["bytes on the wire to the unique-row bound"]
    assert 1 <= float(str(wire["ratio"])) <= 1.2, "it does not depend on the machine's mood"
    assert "training step of 64 windows, as conf has them" in done.stdout


def test_a_bound_from_above_is_met_from_below(capsys: pytest.CaptureFixture[str]) -> None:
    size = Condition("embedding_ranks", "bytes on the wire to the unique-row bound")
    assert size.report([1.1, 1.2, 1.5])
    assert not size.report([1.1, 1.21, 1.3])
    speed = Condition("embedding_step", "dense Adam")
    assert speed.report(
        ratios({"adam": [8.0, 9.0, 10.0], "ours": [0.4, 0.45, 0.5]}, "adam", "ours")
    )
    assert not speed.report([19.9])
    first = json.loads(capsys.readouterr().out.splitlines()[0][7:])
    assert first == {
        "benchmark": "embedding_ranks", "case": size.case, "ratio": 1.2, "min": 1.1, "max": 1.5,
        "wanted": 1.2, "met": True,
    }  # fmt: skip


def test_a_condition_without_a_target_is_an_error() -> None:
    with pytest.raises(KeyError, match="faster than light"):
        Condition("embedding_step", "faster than light").report([1.0])
