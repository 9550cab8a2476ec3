"""The lists of a day, written by the workers that score them, and what the rules took on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from recsys.lake import ROW_FILE, Destination, RowFile, RowFileWriter
from recsys.scoring.list_rules import Limited
from recsys.scoring.picked_lists import Picked, PickedLists, lists_of
from recsys.scoring.rule_counts import count_names, counts_of
from recsys.scoring.scorer import Entry
from recsys.scoring.spark import INPUT, ScoringTask, in_partitions, numbered_lists, scored

OUTPUT = f"{ROW_FILE}, counted array<bigint>, picked string"


@dataclass(frozen=True)
class WrittenLists:
    """What one job wrote."""

    files: list[RowFile]
    """To be committed."""
    counted: Mapping[str, int]
    """What ``rule_counts.count_names`` name, of all users in ``files``."""
    picked: PickedLists
    """The lists of those who were picked, as they were scored."""


def write_lists(
    users: DataFrame,
    task: ScoringTask,
    entry: Entry,
    to: Destination,
    *,
    n: int,
    partitions: int,
    picked: Sequence[str] = (),
    write_picked: bool = True,
) -> WrittenLists:
    """Score ``users`` (columns ``spark.INPUT``) and write their rows of top_n_lists, a file per partition.

    The few users in ``picked`` are told of, too; without ``write_picked`` they are neither written nor counted.

    Raises:
        PySparkException: a task failed, or a user came twice (the contract's check, in its message).
    """

    names = count_names(task.rules)
    output = T.StructType.fromDDL(OUTPUT)
    assert isinstance(output, T.StructType)
    told_as = to_arrow_schema(output)

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counted, told = np.zeros(len(names), np.int64), Picked(picked)
        aside = pa.array(picked, pa.string())
        with RowFileWriter(to) as writer:
            for user_ids, limited, left_out_BR in scored(batches, task, entry, n):
                rows, kept_B = _rows(user_ids, limited, task, entry), slice(None)
                told.look_at(rows)
                if not write_picked:
                    kept_B = pc.invert(pc.is_in(user_ids, aside)).to_numpy(zero_copy_only=False)
                    rows = rows.filter(pa.array(kept_B))
                writer.write(rows)
                counted += counts_of(limited.lists.lengths[kept_B], left_out_BR[kept_B])
            file = writer.close()
        if file or told:
            facts = asdict(file) if file else {}
            row = facts | {"counted": counted.tolist(), "picked": told.as_json()}
            yield pa.RecordBatch.from_pylist([row], schema=told_as)

    rows = in_partitions(users.select(*INPUT), partitions).mapInArrow(write, OUTPUT).collect()
    told = [row.asDict() for row in rows]
    of_picked = lists_of(one.pop("picked") for one in told)
    counted = np.array([one.pop("counted") for one in told], np.int64).reshape(-1, len(names))
    of_rules = dict(zip(names, counted.sum(axis=0).tolist(), strict=True))
    files = [RowFile(**one) for one in told if one["path"]]
    return WrittenLists(files, of_rules, of_picked)


def _rows(user_ids: pa.Array, limited: Limited, task: ScoringTask, entry: Entry) -> pa.RecordBatch:
    """Of top_n_lists but its partition; the three lists have the same lengths, for they have the same offsets."""
    columns = [user_ids, *numbered_lists(limited.lists, task.scorer().kit.item_ids)]
    version = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(len(user_ids), np.int8)), pa.array([entry.model_version])
    )
    names = ["user_id", "item_ids", "scores", "sources", "model_version"]
    return pa.RecordBatch.from_arrays([*columns, version], names=names)
