"""Stored lists against the tables they were built from: every list, by the hash of its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from recsys.contracts import TOP_N_LISTS
from recsys.errors import CorruptArtifact
from recsys.lake import Lake
from recsys.monitoring import snapshot_pairs
from recsys.monitoring.fingerprints import Fingerprint, bucket_of, digest_of
from recsys.monitoring.snapshot_pairs import Ask
from recsys.monitoring.verdicts import MOST_EXAMPLES, Comparison, compared
from recsys.release.encoding import encode_lists
from recsys.release.lists import PUBLISHED, Lists
from recsys.release.manifest import ReleaseManifest
from recsys.release.snapshot import Kind
from recsys.release.stored_list import Place, decode, key_of, keys_of

COLUMNS = ("id", "item_ids", "scores", "sources")
Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class Copies:
    """Where both copies of a release's lists are."""

    lake: Lake
    manifest: ReleaseManifest
    folder: Path
    """Of the release."""
    ask: Ask
    """How the snapshot is read."""


def compare_lists(copies: Copies, lists: Lists) -> Comparison:
    """All lists of one kind, as the tables have them and as the snapshot does.

    Raises:
        CorruptArtifact: the snapshot cannot be read.
        PySparkException: a table cannot be read.
    """
    kind, folder, ask = lists.kind, copies.folder, copies.ask
    of_table = table_fingerprint(lists.rows)
    of_snapshot: Fingerprint = ask(snapshot_pairs.fingerprint, folder, kind)
    one, other = names_of(kind)
    checked = max(of_table.rows, of_snapshot.rows)
    buckets = of_table.differing(of_snapshot)
    if not buckets:
        return compared(one, other, checked=checked, differing=0, examples=())
    in_table = table_digests(lists.rows, buckets)
    stored: dict[bytes, int] = ask(snapshot_pairs.digests_in, folder, kind, buckets)
    differing = sorted(key for key in {*in_table, *stored} if in_table.get(key) != stored.get(key))
    examples = _examples(copies, lists, differing[:MOST_EXAMPLES])
    return compared(one, other, checked=checked, differing=len(differing), examples=examples)


def names_of(kind: Kind) -> tuple[str, str]:
    """What the two copies are called."""
    tables = {"users": "top_n", "items": "similar", "segments": "popular"}
    published = PUBLISHED.get(tables.get(kind, kind))
    return f"table {published.name if published else kind}", f"snapshot {kind}"


def table_fingerprint(rows: DataFrame) -> Fingerprint:
    """Of the stored lists that these rows would be; added up on the workers."""
    found = Fingerprint()
    sums = rows.select(*COLUMNS).mapInArrow(_sums, "bucket bigint, count bigint, total bigint")
    table = sums.toArrow()
    bucket, count, total = (np.asarray(table[n].to_numpy()) for n in table.column_names)
    found.add_sums(bucket, count, total.astype(np.int64).view(np.uint64))
    return found


def table_digests(rows: DataFrame, buckets: frozenset[int]) -> dict[bytes, int]:
    """``snapshot_pairs.digests_in`` of the rows."""

    def digests(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = [
                (key, np.uint64(digest_of(key, value)).view(np.int64))
                for key, value in _pairs(batch)
                if bucket_of(key) in buckets
            ]
            keys = pa.array([key for key, _ in found], pa.binary())
            hashed = pa.array([int(digest) for _, digest in found], pa.int64())
            yield pa.RecordBatch.from_arrays([keys, hashed], ["key", "digest"])

    found = rows.select(*COLUMNS).mapInArrow(digests, "key binary, digest bigint").toArrow()
    digest = np.asarray(found["digest"].to_numpy()).astype(np.int64).view(np.uint64)
    return dict(zip(found["key"].to_pylist(), digest.tolist(), strict=True))


def _sums(batches: Batches) -> Iterator[pa.RecordBatch]:
    found = Fingerprint()
    for batch in batches:
        found.add(_pairs(batch))
    buckets = np.flatnonzero(found.rows_K)
    columns = [buckets, found.rows_K[buckets], found.sums_K[buckets].view(np.int64)]
    names = ["bucket", "count", "total"]
    yield pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names)


def _pairs(batch: pa.RecordBatch) -> Iterator[tuple[bytes, bytes]]:
    values = encode_lists(batch["item_ids"], batch["scores"], batch["sources"])
    return zip(keys_of(batch["id"].to_pylist()), values.to_pylist(), strict=True)


def _examples(copies: Copies, lists: Lists, keys: list[bytes]) -> list[str]:
    ids = ["" if key == key_of("") else key.decode(errors="replace") for key in keys]
    rows = {key_of(row["id"]): row for row in lists.rows.where(F.col("id").isin(ids)).collect()}
    stored = copies.ask(snapshot_pairs.values_of, copies.folder, lists.kind, frozenset(keys))
    files = _files(copies.lake, copies.manifest, ids) if lists.kind == "users" else {}
    return [
        f"{lists.kind} {id_!r}: {difference(rows.get(key), stored.get(key))}"
        + (f", in {files[id_]}" if id_ in files else "")
        for key, id_ in zip(keys, ids, strict=True)
    ]


def _files(lake: Lake, manifest: ReleaseManifest, ids: list[str]) -> dict[str, str]:
    """The data file of top_n_lists that holds each user."""
    version = manifest.tables[TOP_N_LISTS.name].version
    lists = lake.read(TOP_N_LISTS, version=version, as_of=manifest.run_date)
    found = lists.where(F.col("user_id").isin(ids)).select("user_id", "_metadata.file_path")
    return {row["user_id"]: row["file_path"].rpartition("lake/")[2] for row in found.collect()}


def difference(row: Row | None, stored: bytes | None) -> str:
    """What differs first between a list of the table and the stored one."""
    if row is None:
        return "in the snapshot alone"
    if stored is None:
        return "in the table alone"
    columns = (row["item_ids"], row["scores"], row["sources"])
    wanted = [Place(*place) for place in zip(*columns, strict=True)]
    try:
        found = decode(stored)
    except CorruptArtifact:
        return "stored bytes that are no list"
    for rank, (one, other) in enumerate(zip(wanted, found, strict=False), start=1):
        if (one.item_id, one.source) != (other.item_id, other.source) or np.float32(
            one.score
        ) != np.float32(other.score):
            return f"rank {rank} is {_said(one)}, stored is {_said(other)}"
    if len(wanted) != len(found):
        return f"{len(wanted)} items, stored are {len(found)}"
    return "the same items, but other stored bytes"


def _said(place: Place) -> str:
    return f"{place.item_id!r} {place.score:.9g} {place.source}"
