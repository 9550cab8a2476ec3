"""The benchmark of increments at a tiny size: every condition is measured and judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import top_n_incremental
from benchmarks.paired import Condition
from tests.benchmarks.result_lines import LIMITS, have_limits, results

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.spark
def test_both_sides_are_run_and_what_was_not_run_is_not_judged(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = top_n_incremental.Size(users=(60,), items=40, dim=8, neighbours=5, events=4)

    top_n_incremental.run(spark, tmp_path, size, rounds=1)

    said = capsys.readouterr().out
    assert "full run, 60 users: " in said and "changes, 60 users: " in said
    [line] = results(said)
    assert (line["case"], line["ratio"]) == (top_n_incremental.AFFECTED_CASE, 1)
    assert have_limits([line], *LIMITS)


def test_every_condition_is_reported_and_what_was_not_run_is_not_called_met(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = {60: [2.0], 120: [3.0]}
    assert top_n_incremental.on_the_line(line, 120) == [3.0]
    assert top_n_incremental.on_the_line(line, 240) == [5.0]

    top_n_incremental.report({60: [1.0], 120: [1.0]}, line, [1.0], LIMITS)

    found = results(capsys.readouterr().out)
    assert [(one["case"], one["wanted"], one["met"]) for one in found] == [
        (top_n_incremental.SMALL_CASE, 0.4, None),
        (top_n_incremental.LARGE_CASE, 0.15, None),
        (top_n_incremental.AFFECTED_CASE, 1, True),
    ]
    assert all(one["limits"] == LIMITS for one in found)


def test_of_one_number_of_users_nothing_is_said_of_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    top_n_incremental.report({2_000_000: [1.0]}, {2_000_000: [10.0]}, [1.0], LIMITS)
    assert [
        (line["case"], line["ratio"], line["met"]) for line in results(capsys.readouterr().out)
    ] == [
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
