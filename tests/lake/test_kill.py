"""Kill -9 and two writers at once, with real Spark processes."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys.config import RecsysConfig
from recsys.contracts import RELEASES, VOCABULARIES
from recsys.lake import Lake
from tests.kills import newest_version, run_and_kill

pytestmark = pytest.mark.spark
CHECKOUT = Path(__file__).parents[2]
WRITER = [sys.executable, str(CHECKOUT / "tests" / "lake" / "writer.py")]
ENV = {"PYTHONPATH": str(CHECKOUT)}
DAY = date(2024, 6, 1)


def test_a_killed_write_leaves_the_old_rows_and_runs_again(
    spark: SparkSession, lake: Lake, config: RecsysConfig
) -> None:
    before = lake.replace(
        spark.sql("SELECT 'item' AS kind, DATE'2024-06-01' AS version, 'kept' AS id, 9 AS num"),
        VOCABULARIES, {"version": DAY},
    )  # fmt: skip
    table = Path(lake.path(VOCABULARIES))

    killed = run_and_kill([*WRITER, config.paths.root, "replace", "1000"], table, env=ENV)

    assert killed.uncommitted_files and all(
        (table / name).exists() for name in killed.uncommitted_files
    )
    assert newest_version(table) == killed.version == before.version
    assert lake.content_hash(VOCABULARIES) == before.content_hash
    # again, beside what the dead process left: no lock is in the way, and the rows are those of a quiet run
    numbers = spark.range(1, 1001).select(
        F.lit("item").alias("kind"), F.lit(DAY).alias("version"), F.col("id").cast("string").alias("id"),
        F.col("id").cast("int").alias("num"),
    )  # fmt: skip
    again = lake.replace(numbers, VOCABULARIES, {"version": DAY})
    assert lake.content_hash(VOCABULARIES) == again.content_hash
    assert lake.read(VOCABULARIES).count() == 1000


@pytest.mark.slow
def test_two_spark_processes_lose_no_acknowledged_commit(lake: Lake, config: RecsysConfig) -> None:
    lake.create(RELEASES)
    writers = [
        subprocess.Popen(
            [*WRITER, config.paths.root, "append", name, "8"],
            env={**os.environ, **ENV}, stdout=subprocess.PIPE, text=True,
        )
        for name in ("first", "second")
    ]  # fmt: skip
    versions = []
    for writer in writers:
        out, _ = writer.communicate(timeout=900)
        assert writer.returncode == 0
        versions += [
            int(line.split()[1]) for line in out.splitlines() if line.startswith("acknowledged")
        ]

    assert sorted(versions) == list(range(1, 17)), "a version was acknowledged twice, or is missing"
    ids = [row.release_id for row in lake.read(RELEASES).collect()]
    assert sorted(ids) == sorted(f"{name}-{n}" for name in ("first", "second") for n in range(8))
