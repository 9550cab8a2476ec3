"""The same views in Spark SQL."""

from __future__ import annotations

from recsys.contracts import TABLES
from recsys.lake import Lake
from recsys.release.manifest import ReleaseManifest
from recsys.sql.views import VIEWS


def register_views(lake: Lake, release: ReleaseManifest | None = None) -> list[str]:
    """Make every table and view a temporary view of the session; returns their names.

    With ``release``, the tables that it names are read at the versions it names.
    """
    versions = release.tables if release else {}
    names = []
    for name, contract in TABLES.items():
        if lake.exists(contract):
            version = versions[name].version if name in versions else None
            lake.read(contract, version=version).createOrReplaceTempView(name)
            names.append(name)
    for view in VIEWS:
        if set(view.needs) <= set(names):
            lake.spark.sql(view.spark).createOrReplaceTempView(view.name)
            names.append(view.name)
    return names
