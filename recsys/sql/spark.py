"""The same views in Spark SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys.config.places import PathsConfig
from recsys.contracts import TABLES
from recsys.lake import Lake, local_rows
from recsys.release.manifest import ReleaseManifest
from recsys.sql.live import Columns, release_rows
from recsys.sql.recorded import recorded_rows
from recsys.sql.views import VIEWS


def register_views(
    lake: Lake, release: ReleaseManifest | None = None, paths: PathsConfig | None = None
) -> list[str]:
    """Make every table and view a temporary view of the session; returns their names.

    With ``release``, the tables that it names are read at the versions it names. ``paths`` is where the pointer, the
    records and the blocked items lie; those of the lake where none is given.
    """
    paths = paths or lake.paths
    versions = release.tables if release else {}
    names = []
    for name, contract in TABLES.items():
        if lake.exists(contract):
            version = versions[name].version if name in versions else None
            lake.read(contract, version=version).createOrReplaceTempView(name)
            names.append(name)
    for name, (columns, rows) in recorded_rows(paths, release).items():
        _register(lake, name, columns, rows)
        names.append(name)
    for view in VIEWS:
        if set(view.needs) <= set(names):
            lake.spark.sql(view.spark).createOrReplaceTempView(view.name)
            names.append(view.name)
    for name, (columns, rows) in release_rows(paths).items():
        _register(lake, name, columns, rows)
        names.append(name)
    return names


def _register(lake: Lake, name: str, columns: Columns, rows: Sequence[tuple[Any, ...]]) -> None:
    ddl = ", ".join(f"{column} {type_}" for column, type_ in columns.items())
    local_rows(lake.spark, rows, ddl).createOrReplaceTempView(name)
