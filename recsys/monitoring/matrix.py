"""The item matrix that scoring multiplies with, against the table ``item_vectors``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import functions as F

from recsys.contracts import ITEM_VECTORS
from recsys.lake import Lake
from recsys.monitoring.verdicts import MOST_EXAMPLES, Comparison, compared, skipped
from recsys.records import ITEM_VECTORS_FILE
from recsys.release.manifest import ReleaseManifest

# Shape suffixes in this file:
#   N num_items + 1   D embedding width
ONE = "item matrix"
OTHER = f"table {ITEM_VECTORS.name}"
P = np.uint64(0x9E3779B97F4A7C15)


def compare_matrix(lake: Lake, manifest: ReleaseManifest, models: Path) -> Comparison:
    """Each row of the matrix, by the hash of its bytes.

    Raises:
        ValueError: the file is no matrix.
        PySparkException: the table cannot be read.
    """
    path = models / manifest.model.version / ITEM_VECTORS_FILE
    table = manifest.tables.get(ITEM_VECTORS.name)
    if not path.exists() or table is None or not table.rows:
        return skipped(ONE, OTHER, f"model {manifest.model.version} has no item vectors")
    matrix_ND = np.load(path, mmap_mode="r", allow_pickle=False)
    rows = lake.read(ITEM_VECTORS, version=table.version, as_of=manifest.model.as_of).where(
        F.col("model_version") == manifest.model.version
    )
    # 20 bytes an item come here, whatever the width of the vectors.
    found = rows.select("item_num", "vector").mapInArrow(_hashed, "num int, hash bigint").toArrow()
    nums = np.asarray(found["num"].to_numpy()).astype(np.int64)
    hashes = np.asarray(found["hash"].to_numpy()).astype(np.int64)
    known = (nums > 0) & (nums < len(matrix_ND))
    differs = ~known
    differs[known] = row_hashes(matrix_ND[nums[known]]) != hashes[known]
    missing = np.setdiff1d(np.arange(1, len(matrix_ND)), nums)
    bad = nums[differs]
    ids = rows.where(F.col("item_num").isin(bad[:MOST_EXAMPLES].tolist()))
    examples = [
        f"item {row['item_id']!r}, row {row['item_num']} of {path.parent.name}/{path.name}, and {row['file']}"
        for row in ids.select(
            "item_id", "item_num", F.col("_metadata.file_path").alias("file")
        ).orderBy("item_num").collect()
    ]  # fmt: skip
    examples += [f"row {num} is in the matrix alone" for num in missing[:MOST_EXAMPLES].tolist()]
    return compared(
        ONE, OTHER, checked=len(matrix_ND) - 1, differing=len(bad) + len(missing), examples=examples
    )


def row_hashes(rows_ND: NDArray[np.float32]) -> NDArray[np.int64]:
    """64 bits of each row's bytes; a polynomial over the words, so that a swap of two is seen, too."""
    words_ND = np.ascontiguousarray(rows_ND, np.float32).view(np.uint32).astype(np.uint64)
    hash_N = np.full(len(words_ND), P)
    for word_N in words_ND.T:
        hash_N = (hash_N ^ word_N) * P
        hash_N ^= hash_N >> np.uint64(29)
    return hash_N.view(np.int64)


def _hashed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        vectors = batch["vector"]
        width = len(vectors.flatten()) // max(len(vectors), 1)
        rows = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, width or 1)
        hashes = pa.array(row_hashes(rows)) if batch.num_rows else pa.array([], pa.int64())
        yield pa.RecordBatch.from_arrays([batch["item_num"], hashes], ["num", "hash"])
