"""Which Parquet files hold the training examples of one as_of, at one version of the table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from deltalake import DeltaTable

from recsys.config.base import Config
from recsys.errors import ContractError, MissingInput


class ExampleFile(Config):
    """One file of the table, as the Delta log knows it."""

    uri: str
    size_bytes: int
    first_example_id: int

    @property
    def path(self) -> Path | None:
        """Where it lies, or None on an object store."""
        parsed = urlparse(self.uri)
        if parsed.scheme not in ("", "file"):
            return None
        return Path(unquote(parsed.path) if parsed.scheme else self.uri)

    @property
    def url(self) -> str:
        """As petastorm wants it."""
        return self.uri if urlparse(self.uri).scheme else f"file://{self.uri}"


def example_files(table_path: str, *, version: int, as_of: date) -> tuple[ExampleFile, ...]:
    """The files, ordered by the examples in them: file names are random, training must not be.

    Raises:
        MissingInput: the version has no examples for ``as_of``.
        ContractError: the log does not say which examples a file holds.
    """
    table = DeltaTable(table_path, version=version)
    known = {unquote(os.path.basename(str(row["path"]))): row for row in _added(table)}
    files = []
    for uri in table.file_uris(file_pruning_predicate=[("as_of", "=", as_of.isoformat())]):
        row = known[unquote(os.path.basename(uri))]
        if row["num_records"] == 0:
            continue
        if row["min.example_id"] is None:
            raise ContractError(
                f"training file {uri} has no statistics of example_id in the table's log, so its place among "
                "the others is not known: run build_training_set again"
            )
        files.append(
            ExampleFile(
                uri=uri, size_bytes=row["size_bytes"], first_example_id=row["min.example_id"]
            )
        )
    if not files:
        raise MissingInput(
            f"training_examples has no rows with as_of {as_of} at version {version}: "
            f"run build_training_set first"
        )
    return tuple(sorted(files, key=lambda file: file.first_example_id))


def _added(table: DeltaTable) -> list[dict[str, Any]]:
    """The log's lines of all files; a statistic that no file has is None in each."""
    actions = table.get_add_actions(flatten=True)
    have = set(actions.schema.names)
    names = ("path", "size_bytes", "num_records", "min.example_id")
    columns = [
        actions[name].to_pylist() if name in have else [None] * actions.num_rows for name in names
    ]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def check_files(files: Sequence[ExampleFile]) -> None:
    """Find a file that is missing or shorter than the log says before anyone trains on the others.

    Raises:
        ContractError: naming the first such file.
    """
    for file in files:
        if (path := file.path) is None:
            continue
        if not path.exists():
            raise ContractError(
                f"training file {path} is missing, though the table's log lists it: "
                "run build_training_set again"
            )
        if (size := path.stat().st_size) != file.size_bytes:
            raise ContractError(
                f"training file {path} is truncated or changed: {size} bytes, the table's log says "
                f"{file.size_bytes}: run build_training_set again"
            )
