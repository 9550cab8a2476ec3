"""Checksums of data files, taken by the workers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact
from recsys.lake import Lake
from recsys.release.data_files import PIECE_BYTES, hash_files

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def test_files_of_any_size_have_their_checksum_and_one_that_is_gone_is_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    paths = PathsConfig(root=str(tmp_path))
    contents = {
        "top_n_lists/as_of=2024-06-01/empty.parquet": b"",
        "top_n_lists/as_of=2024-06-01/two pieces.parquet": bytes(PIECE_BYTES + 1),
    }
    for name, content in contents.items():
        file = Path(paths.lake_uri.removeprefix("file://"), name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    lake = Lake(spark, paths)

    wanted = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert hash_files(lake, sorted(contents)) == wanted
    assert hash_files(lake, []) == {}
    with pytest.raises(CorruptArtifact, match=r"rules/gone\.parquet cannot be read .FileNotFound"):
        hash_files(lake, [*contents, "rules/gone.parquet"])
