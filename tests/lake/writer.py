"""A process that writes to a lake: `python writer.py ROOT replace ROWS`, `… append NAME TIMES` or `… outgrow`.

Prints each version that the lake acknowledged. What the kill, the race and the full disk tests run.
"""

from __future__ import annotations

import sys
from datetime import date, datetime

from pyspark.sql import functions as F

from recsys.config.places import PathsConfig, SparkConfig
from recsys.contracts import RELEASES, VOCABULARIES
from recsys.lake import Lake, local_rows, spark_session, struct_type
from recsys.runner import Job, running

DAY = date(2024, 6, 1)


def replace(lake: Lake, rows: int) -> None:
    """Numbers 1 to ``rows``, in two files."""
    numbers = lake.spark.range(1, rows + 1, numPartitions=2).select(
        F.lit("item").alias("kind"), F.lit(DAY).alias("version"), F.col("id").cast("string").alias("id"),
        F.col("id").cast("int").alias("num"),
    )  # fmt: skip
    report(lake.replace(numbers, VOCABULARIES, {"version": DAY}).version)


def append(lake: Lake, name: str, times: int) -> None:
    for number in range(times):
        row = (f"{name}-{number}", DAY, "published", datetime(2024, 6, 1), "m", 0, "", "{}")
        report(lake.append(local_rows(lake.spark, [row], struct_type(RELEASES)), RELEASES).version)


def outgrow(root: str) -> None:
    """As a job: 1,000 rows, then more than a small disk holds. Says whether the 1,000 are still there."""
    job = Job("build_features", reads=(), writes=("vocabularies",))
    overrides = [f"paths.root={root}", "spark.driver_memory=1g"]
    with running(job, "local", DAY.isoformat(), overrides) as context:
        assert context
        lake = context.lake
        replace(lake, 1000)
        before = lake.content_hash(VOCABULARIES)
        many = lake.spark.range(1, 400_001, numPartitions=2).select(
            F.lit("item").alias("kind"), F.lit(DAY).alias("version"),
            F.sha1(F.col("id").cast("string")).alias("id"), F.col("id").cast("int").alias("num"),
        )  # fmt: skip
        try:
            report(lake.replace(many, VOCABULARIES, {"version": DAY}).version)
        finally:
            kept = lake.version(VOCABULARIES), lake.content_hash(VOCABULARIES) == before
            sys.stdout.write(f"version {kept[0]}, as before: {kept[1]}\n")


def report(version: int) -> None:
    sys.stdout.write(f"acknowledged {version}\n")
    sys.stdout.flush()


def main(root: str, act: str, *arguments: str) -> None:
    if act == "outgrow":
        outgrow(root)
        return
    settings = SparkConfig(driver_memory="1g", settings={"spark.sql.shuffle.partitions": "2"})
    paths = PathsConfig(root=root)
    with spark_session("writer", settings) as spark:
        if act == "replace":
            replace(Lake(spark, paths), int(arguments[0]))
        else:
            append(Lake(spark, paths), arguments[0], int(arguments[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
