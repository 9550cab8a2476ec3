"""A process that writes to a lake: `python writer.py ROOT replace ROWS` or `… append NAME TIMES`.

Prints each version that the lake acknowledged. What the kill and the race tests run.
"""

from __future__ import annotations

import sys
from datetime import date, datetime

from pyspark.sql import functions as F

from recsys.config.places import PathsConfig, SparkConfig
from recsys.contracts import RELEASES, VOCABULARIES
from recsys.lake import Lake, spark_session, struct_type

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
        report(
            lake.append(lake.spark.createDataFrame([row], struct_type(RELEASES)), RELEASES).version
        )


def report(version: int) -> None:
    sys.stdout.write(f"acknowledged {version}\n")
    sys.stdout.flush()


def main(root: str, act: str, *arguments: str) -> None:
    settings = SparkConfig(driver_memory="1g", settings={"spark.sql.shuffle.partitions": "2"})
    paths = PathsConfig(root=root)
    with spark_session("writer", settings) as spark:
        if act == "replace":
            replace(Lake(spark, paths), int(arguments[0]))
        else:
            append(Lake(spark, paths), arguments[0], int(arguments[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
