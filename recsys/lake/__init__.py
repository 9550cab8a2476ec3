"""The one place a SparkSession is built and a Delta table is read or written."""

from __future__ import annotations

from recsys.lake.days import Tables, replace_days
from recsys.lake.row_files import ROW_FILE, Destination, RowFile, RowFileWriter
from recsys.lake.schema import apply_contract, local_rows, struct_type
from recsys.lake.session import spark_session
from recsys.lake.tables import Lake, Written, sql_literal

__all__ = [
    "ROW_FILE",
    "Destination",
    "Lake",
    "RowFile",
    "RowFileWriter",
    "Tables",
    "Written",
    "apply_contract",
    "local_rows",
    "replace_days",
    "spark_session",
    "sql_literal",
    "struct_type",
]
