"""The benchmark of the scoring job at a tiny size: both sides agree, and every condition is measured and judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import top_n_vs_als
from recsys.scoring.select import library
from tests.benchmarks.result_lines import LIMITS, have_limits, results

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.spark
@pytest.mark.skipif(library() is None, reason="needs the compiled kernel: make setup")
def test_every_condition_is_measured_and_judged(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = top_n_vs_als.Size(small=60, large=90, samples=(30, 60), items=200, dim=8)
    job = top_n_vs_als.Job(spark, tmp_path, size)
    job.make_tables((30, 60, 90))

    top_n_vs_als.run(job, rounds=1)

    lines = results(capsys.readouterr().out)
    assert [(line["case"], line["wanted"]) for line in lines] == [
        (top_n_vs_als.SMALL_CASE, 10),
        (top_n_vs_als.LARGE_CASE, 40),
        (top_n_vs_als.AROUND_CASE, 1.2),
    ]
    assert all(isinstance(line["met"], bool) for line in lines)
    assert have_limits(lines, *LIMITS)
