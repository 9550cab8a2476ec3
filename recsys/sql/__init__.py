"""The tables in SQL: the same views in DuckDB (a laptop, no JVM) and in Spark SQL."""

from __future__ import annotations
