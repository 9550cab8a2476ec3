"""The lists of a day, written by the workers that score them, and what the rules took on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from recsys.lake import ROW_FILE, Destination, RowFile, RowFileWriter
from recsys.scoring.list_rules import Limited
from recsys.scoring.rule_counts import count_names, counts_of
from recsys.scoring.scorer import Entry
from recsys.scoring.spark import INPUT, ScoringTask, in_partitions, numbered_lists, scored

OUTPUT = f"{ROW_FILE}, counted array<bigint>"


def write_lists(
    users: DataFrame,
    task: ScoringTask,
    entry: Entry,
    to: Destination,
    *,
    n: int,
    partitions: int,
) -> tuple[list[RowFile], Mapping[str, int]]:
    """Score ``users`` (columns ``spark.INPUT``) and write their rows of top_n_lists, a file per partition.

    Returns the files, to be committed, and what ``rule_counts.count_names`` name, of all users.

    Raises:
        PySparkException: a task failed, or a user came twice (the contract's check, in its message).
    """

    names = count_names(task.rules)

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counted = np.zeros(len(names), np.int64)
        with RowFileWriter(to) as writer:
            for user_ids, limited, left_out in scored(batches, task, entry, n):
                writer.write(_rows(user_ids, limited, task, entry))
                counted += counts_of(limited.lists, left_out)
            file = writer.close()
        if file:
            yield pa.RecordBatch.from_pylist([asdict(file) | {"counted": counted.tolist()}])

    rows = in_partitions(users.select(*INPUT), partitions).mapInArrow(write, OUTPUT).collect()
    told = [row.asDict() for row in rows]
    counted = np.array([one.pop("counted") for one in told], np.int64).reshape(-1, len(names))
    of_rules = dict(zip(names, counted.sum(axis=0).tolist(), strict=True))
    return [RowFile(**one) for one in told], of_rules


def _rows(user_ids: pa.Array, limited: Limited, task: ScoringTask, entry: Entry) -> pa.RecordBatch:
    """Of top_n_lists but its partition; the three lists have the same lengths, for they have the same offsets."""
    columns = [user_ids, *numbered_lists(limited.lists, task.scorer().kit.item_ids)]
    version = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(len(user_ids), np.int8)), pa.array([entry.model_version])
    )
    names = ["user_id", "item_ids", "scores", "sources", "model_version"]
    return pa.RecordBatch.from_arrays([*columns, version], names=names)
