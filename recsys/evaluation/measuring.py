"""Every recommender on a window: lists and per-user metrics on Spark, small frames to the driver.

Shape suffixes: U users, T kinds of targets, M metrics, K cut-offs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys.evaluation.ranking import METRICS, hits, metrics_by_user
from recsys.scoring.kit import open_kit
from recsys.scoring.lists import Lists
from recsys.scoring.scorer import Entry
from recsys.scoring.spark import ScoringTask, in_partitions
from recsys.scoring.users import batch_from_arrow, flat_lists

KINDS = ("all", "first")
"""All purchases; items that the user had never bought before the cut-off."""

OUTPUT = "recommender string, user_id string, metric_values array<double>, item_nums array<int>"


@dataclass(frozen=True)
class Measured:
    """Per-user metrics and coverage of one window."""

    window: str
    cut_off: date
    ks: tuple[int, ...]
    by_user: dict[str, NDArray[np.float64]]
    """Recommender -> [U, T, M, K], users by id; NaN without such targets."""
    coverage: dict[str, dict[int, float]]
    """Recommender -> k -> share of the allowed catalogue that is in somebody's first k."""

    def num_users(self, kind: str) -> int:
        """Users with a target of this kind."""
        if not self.by_user:
            return 0
        values = next(iter(self.by_user.values()))
        return int(np.isfinite(values[:, KINDS.index(kind), 0, 0]).sum())


def measure(
    users: DataFrame, task: ScoringTask, entries: tuple[Entry, ...], *,
    window: str, cut_off: date, ks: tuple[int, ...], partitions: int,
) -> Measured:  # fmt: skip
    """Score ``users`` (``targets.measured_users``) by every entry, through the published path.

    Per-user figures are made where the lists are: no sum crosses a shuffle. What comes to the driver is
    a row per measured user and recommender, so ``evaluation.max_users`` bounds it.
    """
    deepest = max(ks)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scorer = task.scorer()
        for batch in batches:
            if not batch.num_rows:
                continue
            found = scorer.lists_by_entry(
                batch_from_arrow(batch, task.signals, scorer.kit.segments), entries, deepest
            )
            for entry, lists in zip(entries, found, strict=True):
                yield _to_arrow(entry.recipe.name, batch, lists, ks)

    scored = in_partitions(users, partitions).mapInArrow(score, OUTPUT).toArrow().combine_chunks()
    catalogue = max(int(open_kit(task.kit_folder).allowed.sum()), 1)
    by_user: dict[str, NDArray[np.float64]] = {}
    coverage: dict[str, dict[int, float]] = {}
    for entry in entries:
        name = entry.recipe.name
        mine = scored.filter(pc.equal(scored.column("recommender"), name)).sort_by("user_id")
        by_user[name] = _numpy(mine, "metric_values").reshape(-1, len(KINDS), len(METRICS), len(ks))
        coverage[name] = _coverage(mine, ks, catalogue)
    return Measured(window, cut_off, ks, by_user, coverage)


def values_of_lists(
    lists: Lists, batch: pa.RecordBatch, ks: tuple[int, ...]
) -> NDArray[np.float64]:
    """[users, T, M, K] of one batch; ``batch`` has the columns of ``targets.TARGET_COLUMNS``."""
    lists_BK = lists.padded(max(ks))
    kinds = []
    for nums, count in (("target_nums", "num_targets"), ("first_nums", "num_first")):
        offsets, flat = flat_lists(batch.column(nums))
        counts = batch.column(count).to_numpy(zero_copy_only=False).astype(np.int64)
        target_nums = flat.to_numpy(zero_copy_only=False).astype(np.int32)
        kinds.append(metrics_by_user(hits(lists_BK, offsets, target_nums), counts, ks))
    return np.stack(kinds, axis=1)


def _to_arrow(
    name: str, batch: pa.RecordBatch, lists: Lists, ks: tuple[int, ...]
) -> pa.RecordBatch:
    values = values_of_lists(lists, batch, ks)
    users, width = len(values), int(np.prod(values.shape[1:]))
    value_offsets = pa.array(np.arange(users + 1, dtype=np.int32) * width)
    list_offsets = pa.array(lists.offsets.astype(np.int32))
    columns = [
        pa.repeat(name, users),
        batch.column("user_id"),
        pa.ListArray.from_arrays(value_offsets, pa.array(values.ravel())),
        pa.ListArray.from_arrays(list_offsets, pa.array(lists.item_nums)),
    ]
    names = ["recommender", "user_id", "metric_values", "item_nums"]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _coverage(scored: pa.Table, ks: tuple[int, ...], catalogue: int) -> dict[int, float]:
    """Share of the catalogue in somebody's first k."""
    offsets, _ = flat_lists(scored.column("item_nums").combine_chunks())
    nums = _numpy(scored, "item_nums")
    ranks = np.arange(1, len(nums) + 1) - np.repeat(offsets[:-1], np.diff(offsets))
    return {k: len(np.unique(nums[ranks <= k])) / catalogue for k in ks}


def _numpy(scored: pa.Table, name: str) -> NDArray[Any]:
    """The values of a list column, one after the other."""
    values: NDArray[Any] = (
        scored.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    )
    return values
