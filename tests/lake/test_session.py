"""Cached frames are cut to the size of their rows: a laptop's heap holds a night of any size."""

from __future__ import annotations

import pytest
from pyspark import StorageLevel
from pyspark.sql import SparkSession
from pyspark.sql import functions as F


@pytest.mark.parametrize(("rows", "fewest", "most"), [(1_000, 1, 2), (400_000, 12, 64)])
def test_a_cached_frame_has_as_many_parts_as_its_rows_need(
    spark: SparkSession, rows: int, fewest: int, most: int
) -> None:
    """With 2 MB a part here; 400,000 hashes of 64 letters are some 30 MB."""
    setting = "spark.sql.adaptive.advisoryPartitionSizeInBytes"
    before = str(spark.conf.get(setting))
    spark.conf.set(setting, "2m")
    named = spark.range(rows).select("id", F.sha2(F.col("id").cast("string"), 256).alias("name"))
    frame = named.repartition("name").persist(StorageLevel.MEMORY_AND_DISK_DESER)
    try:
        assert frame.count() == rows
        assert fewest <= frame.rdd.getNumPartitions() <= most
    finally:
        frame.unpersist()
        spark.conf.set(setting, before)
