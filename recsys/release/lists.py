"""The lists of a run date as DataFrames of one grain (key, item_ids, scores, sources), and as stored bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.contracts import ITEMS, POPULAR_ITEMS, SIMILAR_ITEMS, TOP_N_LISTS, TableContract
from recsys.lake import Lake
from recsys.release.encoding import encode_batches
from recsys.release.snapshot import Kind
from recsys.release.snapshot_builder import Chunk
from recsys.release.stored_list import MAX_KEY_BYTES

PUBLISHED: dict[str, TableContract] = {
    "top_n": TOP_N_LISTS,
    "similar": SIMILAR_ITEMS,
    "popular": POPULAR_ITEMS,
}
"""List -> the table it is published from."""

LISTS_PER_PARTITION = 20_000
"""About 100 MB of stored lists: what the driver holds at a time."""


@dataclass(frozen=True)
class Lists:
    """All lists of one kind, one row per key."""

    kind: Kind
    rows: DataFrame
    """id, item_ids, scores, sources."""


def published_lists(lake: Lake, versions: dict[str, int], run_date: date) -> list[Lists]:
    """What goes into the snapshot: users, items and segments, read at ``versions``."""

    def rows(contract: TableContract) -> DataFrame:
        return lake.read(contract, version=versions[contract.name], as_of=run_date)

    users = rows(TOP_N_LISTS).select(F.col("user_id").alias("id"), "item_ids", "scores", "sources")
    similar = _ranked(rows(SIMILAR_ITEMS), "item_id", "similar_item_id", "similar")
    if ITEMS.name in versions:
        # An item that goes with nothing is known all the same: its shelf is empty, not unknown.
        known = lake.read(ITEMS, version=versions[ITEMS.name]).where(
            F.col("valid_from") < F.lit(run_date)
        )
        known_ids = known.select(F.col("item_id").alias("id")).distinct()
        similar = known_ids.join(similar, "id", "full").select(
            "id",
            *(
                F.coalesce(name, F.array().cast(type_)).alias(name)
                for name, type_ in (
                    ("item_ids", "array<string>"),
                    ("scores", "array<float>"),
                    ("sources", "array<string>"),
                )
            ),
        )
    popular = _ranked(rows(POPULAR_ITEMS), "segment", "item_id", "popular")
    return [Lists("users", users), Lists("items", similar), Lists("segments", popular)]


def stored_chunks(lists: Lists, keys: int) -> Iterator[Chunk]:
    """Keys and stored lists, keys ascending; encoded on the workers, one partition at a time on the driver."""
    partitions = max(1, -(-keys // LISTS_PER_PARTITION))
    keyed = lists.rows.withColumn("key", _key(F.col("id")))
    keyed = keyed.select("key", "item_ids", "scores", "sources")
    if partitions == 1:
        keyed = keyed.coalesce(1)  # spares the job that samples the keys for their ranges
    else:
        keyed = keyed.repartitionByRange(partitions, "key")
    ordered = keyed.sortWithinPartitions("key")
    for row in ordered.mapInArrow(encode_batches, "chunk binary").toLocalIterator(
        prefetchPartitions=True
    ):
        table = pa.ipc.open_stream(row["chunk"]).read_all()
        yield table["key"].to_pylist(), table["value"].to_pylist()


def _ranked(rows: DataFrame, id_: str, item: str, source: str) -> DataFrame:
    """One list per id from one row per place."""
    score = F.col("score").cast("float").alias("score")
    place = F.struct("rank", F.col(item).alias("item_id"), score)
    lists = rows.groupBy(F.col(id_).alias("id")).agg(F.array_sort(F.collect_list(place)).alias("p"))
    return lists.select(
        "id",
        F.col("p.item_id").alias("item_ids"),
        F.col("p.score").alias("scores"),
        F.transform("p", lambda _: F.lit(source)).alias("sources"),
    )


def _key(id_: SparkColumn) -> SparkColumn:
    """``stored_list.key_of`` in Spark."""
    raw = id_.cast("binary")
    not_utf8 = F.unhex(F.lit("FF"))
    hashed = F.concat(not_utf8, F.unhex(F.sha2(raw, 256)))
    return (
        F.when(F.length(raw) == 0, not_utf8)
        .when(F.length(raw) > MAX_KEY_BYTES, hashed)
        .otherwise(raw)
    )
