"""``data_files.json`` of a release: the Delta files that its answers lie in, each with its checksum.

A content hash says that rows changed, not in which file; and a byte of a Parquet footer that no row depends on today
misleads the reader that prunes by it tomorrow. Delta's files never change once they are written, so any byte counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import reduce
from pathlib import Path

import pyarrow as pa
from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from pydantic import TypeAdapter, ValidationError
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.config.places import PathsConfig
from recsys.contracts import (
    ALSO_BOUGHT,
    ITEM_VECTORS,
    POPULAR_ITEMS,
    RULES,
    SIMILAR_ITEMS,
    TOP_N_LISTS,
    TableContract,
)
from recsys.errors import CorruptArtifact
from recsys.lake import Lake
from recsys.records import write_atomically
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import release_folder

DATA_FILES_FILE = "data_files.json"
ANSWERS: tuple[TableContract, ...] = (
    TOP_N_LISTS, SIMILAR_ITEMS, ALSO_BOUGHT, POPULAR_ITEMS, RULES, ITEM_VECTORS,
)  # fmt: skip
PIECE_BYTES = 8 << 20
_FILES = TypeAdapter(dict[str, str])


def write_data_files(lake: Lake, paths: PathsConfig, manifest: ReleaseManifest) -> bool:
    """Write it, right after the release was built; False where it is there."""
    path = release_folder(paths, manifest.release_id) / DATA_FILES_FILE
    if path.exists():
        return False
    found = hash_files(lake, sorted(data_files(lake, manifest)))
    write_atomically(path, json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")
    return True


def read_data_files(folder: Path) -> dict[str, str] | None:
    """File, relative to the lake -> sha256; None where the release has none, being of an older version.

    Raises:
        CorruptArtifact: the file is damaged.
    """
    path = folder / DATA_FILES_FILE
    try:
        return _FILES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CorruptArtifact(
            f"{path} is damaged ({error.error_count()} problems): remove it, and publish the run date again "
            "to have it written anew"
        ) from None


def data_files(lake: Lake, manifest: ReleaseManifest) -> set[str]:
    """The files that hold the rows of the release's days, relative to the lake."""
    found: list[DataFrame] = []
    for contract in ANSWERS:
        if table := manifest.tables.get(contract.name):
            day = manifest.model.as_of if contract is ITEM_VECTORS else manifest.run_date
            rows = lake.read(contract, version=table.version, as_of=day)
            found.append(rows.select(F.col("_metadata.file_path").alias("file")).distinct())
    files = reduce(DataFrame.union, found).collect() if found else []
    return {_relative(lake, row["file"]) for row in files}


def hash_files(lake: Lake, files: list[str]) -> dict[str, str]:
    """sha256 of each, taken on the workers, a piece at a time: a file of lists grows with the shop's users.

    Raises:
        CorruptArtifact: a file is gone or cannot be read.
    """
    if not files:
        return {}
    root = _root(lake)

    def hashed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = [_sha256(root, name) for name in batch.column("file").to_pylist()]
            yield pa.RecordBatch.from_pylist(found)

    named = lake.spark.createDataFrame(pa.table({"file": files})).repartition(len(files), "file")
    rows = named.mapInArrow(hashed, "file string, sha256 string, problem string").collect()
    for row in rows:
        if row["problem"]:
            raise CorruptArtifact(
                f"{root}/{row['file']} cannot be read ({row['problem']}): score and publish its run date again"
            )
    return {row["file"]: row["sha256"] for row in rows}


def _sha256(root: str, name: str) -> dict[str, str]:
    system, path = url_to_fs(f"{root}/{name}")
    digest = hashlib.sha256()
    problem = ""
    try:
        with system.open(path, "rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
    except OSError as error:
        problem = f"{type(error).__name__}: {str(error)[:200]}"
    return {"file": name, "sha256": digest.hexdigest(), "problem": problem}


def _root(lake: Lake) -> str:
    return lake.path(TOP_N_LISTS).removesuffix(f"/{TOP_N_LISTS.name}")


def _relative(lake: Lake, file: str) -> str:
    """Spark says file:/lake/t/f, or with three slashes."""
    return file.rpartition(f"{_root(lake).partition('://')[2] or _root(lake)}/")[2]
