"""The benchmark of a whole evaluation at a tiny size: it is exact, and claims nothing that it did not measure."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks import evaluate_ranking
from benchmarks.dense import vectors
from recsys.scoring.select import library
from recsys.scoring.top_items import largest_norm

pytestmark = pytest.mark.skipif(library() is None, reason="needs the compiled kernel: make setup")


@pytest.fixture(autouse=True)
def threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_condition_is_measured_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_ranking.run(evaluate_ranking.Size(users=300, items=400, dim=8), rounds=1)

    lines = capsys.readouterr().out.splitlines()
    [found] = [json.loads(line[7:]) for line in lines if line.startswith("RESULT ")]
    assert (found["case"], found["wanted"]) == (evaluate_ranking.CASE, 3)
    assert found["met"] is None  # of another size than the condition's


def test_lists_that_are_not_exact_are_found_out() -> None:
    users, items = vectors(5, 8, 1), vectors(90, 8, 2)
    lists = evaluate_ranking.lists_of(users, items, largest_norm(items))
    evaluate_ranking.agree(users, items, lists)

    with pytest.raises(AssertionError):
        evaluate_ranking.agree(users, items, np.roll(lists, 1, axis=1))
