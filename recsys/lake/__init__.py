"""The one place a SparkSession is built and a Delta table is read or written."""

from __future__ import annotations

from recsys.lake.days import replace_days
from recsys.lake.schema import apply_contract, local_rows, struct_type
from recsys.lake.session import spark_session
from recsys.lake.tables import Lake, Written

__all__ = [
    "Lake",
    "Written",
    "apply_contract",
    "local_rows",
    "replace_days",
    "spark_session",
    "struct_type",
]
