"""The benchmark of stage 1 at a tiny size: every condition that can be is measured, and judged by targets.toml."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from benchmarks import top_n_kernel
from benchmarks.dense import vectors
from benchmarks.limits import PRODUCT
from benchmarks.top_n_others import OTHERS, Search
from recsys.scoring.select import library
from tests.benchmarks.result_lines import LIMITS, have_limits, results

BLEND = "stage 1 with blend and three rules to dense alone"
FAISS = {"faiss IndexFlatIP, 20k items": 1.3, "faiss IndexFlatIP, 100k items": 1.3}


@pytest.mark.skipif(library() is None, reason="needs the compiled kernel: make setup")
def test_every_condition_is_measured_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    small = top_n_kernel.Size(users=300, items=400, dim=8, neighbours=10)
    large = top_n_kernel.Size(users=50, items=900, dim=8)

    top_n_kernel.run(small, large, rounds=1)

    said = capsys.readouterr().out
    found = results(said)
    there = importlib.util.find_spec("faiss") is not None
    assert {line["case"]: line["wanted"] for line in found} == (FAISS if there else {}) | {
        BLEND: 1.5
    }
    assert have_limits(found, *LIMITS)
    for name in (*OTHERS, PRODUCT):
        assert said.count(f"{name}: ") == 4  # its time, and that beside ours, at both sizes


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_what_ours_is_compared_with_finds_the_best_of_each_user(make: Search) -> None:
    users_BD, items_ND = vectors(300, 8, 1), vectors(400, 8, 2)

    scores_BM, nums_BM = make(items_ND, 10)(users_BD)

    scores_BN = users_BD.astype(np.float64) @ items_ND.T.astype(np.float64)
    np.testing.assert_array_equal(nums_BM, np.argsort(-scores_BN, axis=1)[:, :10])
    np.testing.assert_allclose(scores_BM, -np.sort(-scores_BN, axis=1)[:, :10], rtol=1e-5)
