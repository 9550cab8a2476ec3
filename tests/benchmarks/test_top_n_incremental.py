"""The benchmark of increments at a tiny size: every condition is measured and judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import top_n_incremental
from benchmarks.paired import Condition

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.spark
def test_every_condition_is_reported_and_what_was_not_run_is_not_called_met(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = top_n_incremental.Size(users=(60,), items=40, dim=8, neighbours=5, events=4)
    shop = top_n_incremental.Shop(spark, tmp_path, size, 60)
    assert shop.changes().reason.startswith("what changed since 2024-06-01: 3 users scored")

    line = {60: [2.0], 120: [3.0]}
    assert top_n_incremental.on_the_line(line, 120) == [3.0]
    assert top_n_incremental.on_the_line(line, 240) == [5.0]
    top_n_incremental.report({60: [1.0], 120: [1.0]}, line, [1.0])
    lines = capsys.readouterr().out.splitlines()
    results = [json.loads(one[7:]) for one in lines if one.startswith("RESULT ")]
    assert [(found["case"], found["wanted"], found["met"]) for found in results] == [
        (top_n_incremental.SMALL_CASE, 0.4, None),
        (top_n_incremental.LARGE_CASE, 0.15, None),
        (top_n_incremental.AFFECTED_CASE, 1, True),
    ]


def test_of_one_number_of_users_nothing_is_said_of_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    top_n_incremental.report({2_000_000: [1.0]}, {2_000_000: [10.0]}, [1.0])
    lines = capsys.readouterr().out.splitlines()
    results = [json.loads(one[7:]) for one in lines if one.startswith("RESULT ")]
    assert [(found["case"], found["ratio"], found["met"]) for found in results] == [
        (top_n_incremental.LARGE_CASE, 0.1, True),
        (top_n_incremental.AFFECTED_CASE, 1, True),
    ]


def test_fewer_users_scored_than_affected_is_not_met_in_any_round(
    capsys: pytest.CaptureFixture[str],
) -> None:
    condition = Condition("top_n_incremental", top_n_incremental.AFFECTED_CASE)
    for ratios, met in (([1.0, 1.0], True), ([0.9], False), ([1.1], False), ([1, 1, 0.5], False)):
        assert condition.report(ratios) == met
    assert '"wanted": 1, "met": true' in capsys.readouterr().out
