"""How a SparkSession of ours is set up."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from recsys.config.places import SparkConfig

SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "4096",
    "spark.databricks.delta.replaceWhere.dataColumns.enabled": "true",
    # Delta 4.4 reads no version older than delta.deletedFileRetentionDuration, a week; a release may be pinned for
    # longer. clean_up keeps the files of the versions that releases name, whatever their age.
    "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration": "false",
    # The rows of a cached frame go to disk 10,000 at a time, and Java's serializer would hold on to a hundred such
    # blocks in each task: a gigabyte that Spark's own account of memory knows nothing of.
    "spark.serializer.objectStreamReset": "1",
    # Of a cached frame, too, a task has as many rows as suit it, whether there are a thousand or thirty million.
    "spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true",
    "spark.ui.showConsoleProgress": "false",
    # Each column expression would ask the JVM four times, to remember the line it was written on.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}

LAPTOP_SETTINGS = {
    # Few, small tasks: the defaults are for a cluster and cost seconds per commit here.
    "spark.sql.shuffle.partitions": "4",
    # Before Spark knows how much there is: what is little, it puts together again.
    "spark.sql.adaptive.coalescePartitions.initialPartitionNum": "64",
    "spark.default.parallelism": "2",
    # Half of 3 GB for sorts and cached rows; at Spark's 0.6 what it keeps no account of finds no room.
    "spark.memory.fraction": "0.5",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


def session_settings(config: SparkConfig) -> dict[str, str]:
    """Everything we ask of Spark; what conf says wins."""
    settings = dict(SETTINGS)
    if config.master.startswith("local"):
        settings |= LAPTOP_SETTINGS
    settings["spark.jars"] = ",".join(str(jar) for jar in config.delta_jars())
    return settings | config.settings


@contextmanager
def spark_session(name: str, config: SparkConfig) -> Iterator[SparkSession]:
    """A session that is stopped at the end; one that is already there is used and left running."""
    running = SparkSession.getActiveSession()
    if running is not None:
        yield running
        return
    os.environ.setdefault("PYSPARK_PYTHON", config.python or sys.executable)
    builder = SparkSession.builder.appName(name)
    if "SPARK_ENV_LOADED" not in os.environ:  # not under spark-submit, which has set these already
        builder = builder.master(config.master).config("spark.driver.memory", config.driver_memory)
    for key, value in session_settings(config).items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    # What fails reaches the caller as an exception; Spark's own logs would say it again, at length.
    spark.sparkContext.setLogLevel("OFF")
    for logger in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(logger).disabled = True
    try:
        yield spark
    finally:
        spark.stop()
