"""DuckDB over the Delta tables: no JVM, no network, the tables read where they lie."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from recsys.config.places import PathsConfig
from recsys.contracts import TABLES
from recsys.errors import FIRST_NIGHT, ConfigError, MissingInput
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import release_folder
from recsys.release.shelf import shelved_releases
from recsys.sql.live import Columns, release_rows
from recsys.sql.recorded import recorded_rows
from recsys.sql.views import VIEWS

if TYPE_CHECKING:
    import pyarrow as pa

Rows = Iterator[Sequence[Any]]
BATCH_ROWS = 1000
ARROW_ROWS = 1 << 16


class DuckLake:
    """The tables as views of one in-memory DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, tables: list[str]) -> None:
        self._connection = connection
        self.tables = tables
        """Tables and views that can be asked."""

    def query(self, sql: str, values: Mapping[str, object] | None = None) -> tuple[list[str], Rows]:
        """Column names, and the rows as they are fetched. ``values`` fill ``$name`` in the text.

        Raises:
            ConfigError: no such table (those that exist are named), or DuckDB refuses the text.
        """
        cursor = self._execute(sql, values)
        names = [column[0] for column in cursor.description or []]
        return names, self._rows(cursor) if names else iter(())

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The rows as Arrow batches, as ``recsys.row_hashes`` takes them.

        Raises:
            ConfigError: as ``query``.
        """
        yield from self._execute(sql).to_arrow_reader(ARROW_ROWS)

    def _execute(
        self, sql: str, values: Mapping[str, object] | None = None
    ) -> duckdb.DuckDBPyConnection:
        try:
            return self._connection.execute(sql, dict(values) if values else None)
        except duckdb.Error as error:
            raise ConfigError(self._explain(error)) from None

    def _rows(self, cursor: duckdb.DuckDBPyConnection) -> Rows:
        try:
            while batch := cursor.fetchmany(BATCH_ROWS):
                yield from batch
        except duckdb.Error as error:
            raise ConfigError(self._explain(error)) from None

    def _explain(self, error: duckdb.Error) -> str:
        text = str(error).strip()
        if unknown := re.search(r"Table with name (.+?) does not exist", text):
            return self._unknown(unknown.group(1))
        return text

    def _unknown(self, name: str) -> str:
        needs = {view.name: view.needs for view in VIEWS}
        if lacking := self._lacking(name.lower(), needs):
            made_of = "" if lacking == name.lower() else f" for {name!r}"
            return f"no table {lacking!r} yet{made_of}, or it cannot be read: {TABLES[lacking].meaning}"
        near = get_close_matches(name.lower(), {*self.tables, *TABLES, *needs}, n=1)
        hint = f"did you mean {near[0]!r}? There" if near else "there"
        return f"no table {name!r}; {hint} are: {', '.join(self.tables)}"

    def _lacking(self, name: str, needs: Mapping[str, Sequence[str]]) -> str:
        """The table that is missing for ``name``, a table or a view of ours; '' where that is not why."""
        if name in self.tables:
            return ""
        if name in TABLES:
            return name
        return next(filter(None, (self._lacking(one, needs) for one in needs.get(name, ()))), "")


@contextmanager
def open_lake(paths: PathsConfig, release_id: str = "") -> Iterator[DuckLake]:
    """The tables at their newest versions, or those a release names at the versions it names.

    Raises:
        MissingInput: there are no tables yet.
        ConfigError: no such release.
        CorruptArtifact: the release's manifest is damaged.
    """
    release = _release(paths, release_id)
    versions = release.tables if release else {}
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        connection.execute(f"LOAD '{_delta_extension()}'")
        connection.execute("SET TimeZone = 'UTC'")
        names = []
        for name in TABLES:
            location = f"{paths.lake_uri.rstrip('/')}/{name}"
            if "://" in location or (Path(location) / "_delta_log").is_dir():
                version = versions[name].version if name in versions else None
                names += _create_table_view(connection, name, location, version)
        if not names:
            raise MissingInput(f"no tables in {paths.lake_uri}: {FIRST_NIGHT}")
        for name, (columns, rows) in recorded_rows(paths, release).items():
            _create_table(connection, name, columns, rows)
            names.append(name)
        for view in VIEWS:
            if set(view.needs) <= set(names):
                connection.execute(f"CREATE VIEW {view.name} AS {view.duckdb}")
                names.append(view.name)
        for name, (columns, rows) in release_rows(paths).items():
            _create_table(connection, name, columns, rows)
            names.append(name)
        yield DuckLake(connection, names)


def _create_table_view(
    connection: duckdb.DuckDBPyConnection, name: str, location: str, version: int | None
) -> list[str]:
    """The view's name, or nothing where a remote lake has no such table."""
    quoted = location.replace("'", "''")
    at = "" if version is None else f", version={version}"
    try:
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM delta_scan('{quoted}'{at})")
    except duckdb.IOException:
        if "://" in location:
            return []
        raise
    return [name]


DUCKDB_TYPES = {
    "string": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "map<string,bigint>": "MAP(VARCHAR, BIGINT)",
}
"""Where DuckDB's name of a type is another than Spark's."""


def _create_table(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: Columns,
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """A few rows that lie in no Delta table."""
    typed = ", ".join(
        f"{column} {DUCKDB_TYPES.get(type_, type_)}" for column, type_ in columns.items()
    )
    connection.execute(f"CREATE TABLE {name} ({typed})")
    if rows:
        places = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {name} VALUES ({places})", rows)


def _release(paths: PathsConfig, release_id: str) -> ReleaseManifest | None:
    if not release_id:
        return None
    known = [one.release_id for one in shelved_releases(paths)]
    if release_id not in known:
        raise ConfigError(
            f"no release {release_id!r}; there are: {', '.join(known[:10]) or 'none'}"
        )
    return ReleaseManifest.read(release_folder(paths, release_id))


def _delta_extension() -> Path:
    """The extension's file in its wheel, which carries one for one DuckDB version and platform."""
    folder = resources.files("duckdb_extension_delta")
    [found] = Path(str(folder)).rglob("delta.duckdb_extension")
    return found
