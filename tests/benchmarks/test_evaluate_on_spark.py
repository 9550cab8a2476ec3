"""The benchmark of an evaluation on Spark at a tiny size: everybody is measured, and sums alone come to the driver."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks import evaluate_on_spark
from recsys.scoring.select import library

pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(library() is None, reason="needs the compiled kernel: make setup"),
]


def test_ten_times_the_users_send_no_more_to_the_driver(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(evaluate_on_spark, "PARTITIONS", 2)
    monkeypatch.setattr(evaluate_on_spark, "ROUNDS", 100)

    evaluate_on_spark.run(spark, tmp_path, evaluate_on_spark.Size(200, items=500))

    lines = capsys.readouterr().out.splitlines()
    [found] = [json.loads(line[7:]) for line in lines if line.startswith("RESULT ")]
    assert (found["case"], found["wanted"]) == (evaluate_on_spark.CASE, 1.1)
    assert found["users"] == 2000 and 0.9 < found["ratio"] < 1.1
    assert found["met"] is None  # of another size than the condition's
    assert "NDCG@10 of the blend 0." in lines[0]
