"""The benchmark of stage 1 at a tiny size: every condition that can be is measured, and judged by targets.toml."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator

import pytest
import torch

from benchmarks import top_n_kernel
from recsys.scoring.select import library

BLEND = "stage 1 with blend and three rules to dense alone"
FAISS = {"faiss IndexFlatIP, 20k items": 1.3, "faiss IndexFlatIP, 100k items": 1.3}


@pytest.fixture
def threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(library() is None, reason="needs the compiled kernel: make setup")
def test_every_condition_is_measured_and_judged(
    capsys: pytest.CaptureFixture[str], threads_as_they_were: None
) -> None:
    small = top_n_kernel.Size(users=300, items=400, dim=8, neighbours=10)
    large = top_n_kernel.Size(users=50, items=900, dim=8)

    top_n_kernel.run(small, large, rounds=1)

    lines = capsys.readouterr().out.splitlines()
    found = [json.loads(line[7:]) for line in lines if line.startswith("RESULT ")]
    there = importlib.util.find_spec("faiss") is not None
    assert {line["case"]: line["wanted"] for line in found} == (FAISS if there else {}) | {
        BLEND: 1.5
    }
    limits = [line for line in lines if "GFLOP/s" in line]
    assert len(limits) == 2 and all("memory copy: " in line for line in limits)
