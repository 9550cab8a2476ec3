"""Numbers that depend on the order of the rows alone, without sorting a shop in one task."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F


def with_start(
    rows: DataFrame,
    name: str,
    *,
    bucket: Column,
    order_by: Sequence[str],
    size: Column | None = None,
    within: Sequence[str] = (),
) -> DataFrame:
    """Add ``name``: the sum of ``size`` (1 by default) over the rows that come before, from 0.

    ``bucket`` must never be null and must not fall as the order rises: buckets are numbered side by side and
    then shifted by the sizes of the buckets before them. ``order_by`` must tell any two rows of a bucket
    apart. Each value of ``within`` counts from 0.
    """
    sized = rows.withColumn("_bucket", bucket).withColumn(
        "_size", (F.lit(1) if size is None else size).cast("bigint")
    )
    before_bucket = (
        Window.partitionBy(*within).orderBy("_bucket").rowsBetween(Window.unboundedPreceding, -1)
    )
    buckets = (
        sized.groupBy(*within, "_bucket")
        .agg(F.sum("_size").alias("_in_bucket"))
        .withColumn("_shift", F.coalesce(F.sum("_in_bucket").over(before_bucket), F.lit(0)))
        .drop("_in_bucket")
    )
    before_row = (
        Window.partitionBy(*within, "_bucket")
        .orderBy(*order_by)
        .rowsBetween(Window.unboundedPreceding, -1)
    )
    in_bucket = F.coalesce(F.sum("_size").over(before_row), F.lit(0))
    return (
        sized.withColumn("_in_bucket", in_bucket)
        .join(F.broadcast(buckets), [*within, "_bucket"])
        .withColumn(name, F.col("_shift") + F.col("_in_bucket"))
        .drop("_bucket", "_size", "_in_bucket", "_shift")
    )
