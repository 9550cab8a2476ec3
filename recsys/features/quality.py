"""What the features room counts for data_quality."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.contracts import DATA_QUALITY
from recsys.lake import apply_contract


def capped_users(
    histories: DataFrame,
    *,
    run_date: date,
    job: str,
    max_user_events_90d: int,
) -> DataFrame:
    """How many users are left out of pairs and training, a row per day of ``histories``."""
    counted = histories.groupBy("as_of").agg(F.count_if("is_capped").cast("double").alias("value"))
    return apply_contract(
        counted.select(
            F.lit(run_date).alias("run_date"),
            F.lit(job).alias("job"),
            F.lit("capped_users").alias("check"),
            F.lit("").alias("source"),
            F.lit("").alias("source_file"),
            F.date_format("as_of", "yyyy-MM-dd").alias("subject"),
            "value",
            F.lit(f"at most {max_user_events_90d} history events in 90 days").alias("wanted"),
            F.lit("noted").alias("verdict"),
            F.lit("left out of co-occurrence and training, kept in events").alias("reason"),
        ),
        DATA_QUALITY,
    )
