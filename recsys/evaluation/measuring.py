"""Every recommender on a window: lists and per-user figures on Spark, small frames to the driver.

Shape suffixes: U users, T kinds of targets, M metrics, C cut-offs, Q figures of lists, K list places,
N catalogue (num_items + 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.evaluation.catalogue import FIGURES, Catalogue
from recsys.evaluation.ranking import METRICS, hits, metrics_by_user
from recsys.evaluation.splits import Targets
from recsys.scoring.kit import Kit
from recsys.scoring.lists import Lists
from recsys.scoring.scorer import Entry
from recsys.scoring.spark import ScoringTask, in_partitions
from recsys.scoring.users import batch_from_arrow, flat_lists

KINDS = ("all", "first")
"""All purchases; items that the user had never bought before the cut-off."""

OUTPUT = (
    "recommender string, user_id string, metric_values array<double>, list_values array<double>, "
    "item_nums array<int>"
)
NEWEST = 5
"""Events of a history that are kept to be shown."""


@dataclass(frozen=True)
class People:
    """Who was measured, by user id, and what they went on to have."""

    user_ids: tuple[str, ...]
    segments: tuple[str, ...]
    """'' where unknown."""
    num_events_U: NDArray[np.int64]
    """Of the history, as long as it is kept (``features.max_history``)."""
    newest_UK: NDArray[np.int32]
    """The newest ``NEWEST`` items of the history, oldest first, 0 before them."""
    targets: Targets
    num_first_U: NDArray[np.int64]
    """Targets that they had never had."""

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def has_targets_UT(self) -> NDArray[np.bool_]:
        has: NDArray[np.bool_] = np.stack([self.targets.counts, self.num_first_U], axis=1) > 0
        return has

    @classmethod
    def of(cls, users: DataFrame) -> People:
        """From the columns of ``targets.measured_users``."""
        newest = F.slice("item_nums", -F.least(F.size("item_nums"), F.lit(NEWEST)), NEWEST)
        found = users.select(
            "user_id", F.coalesce("segment", F.lit("")).alias("segment"),
            F.size("item_nums").alias("num_events"), newest.alias("newest"),
            "target_nums", "num_targets", "num_first",
        ).toArrow().combine_chunks().sort_by("user_id")  # fmt: skip
        offsets, target_nums = flat_lists(found.column("target_nums").combine_chunks())
        return cls(
            tuple(found.column("user_id").to_pylist()),
            tuple(found.column("segment").to_pylist()),
            _ints(found, "num_events"),
            _ending(*flat_lists(found.column("newest").combine_chunks())),
            Targets(offsets, _int32(target_nums), _ints(found, "num_targets")),
            _ints(found, "num_first"),
        )


@dataclass(frozen=True)
class Measured:
    """What was measured on one window; users are in the order of ``people``."""

    window: str
    cut_off: date
    ks: tuple[int, ...]
    people: People
    by_user: dict[str, NDArray[np.float64]]
    """Recommender -> [U, T, M, C]; 0 for a user without such targets."""
    list_values: dict[str, NDArray[np.float64]]
    """Recommender -> [U, Q, C], the figures of ``catalogue``; NaN where there is nothing to say of a user."""
    lists: dict[str, NDArray[np.int32]]
    """Recommender -> [U, K], as deep as the deepest cut-off."""
    allowed_N: NDArray[np.bool_]
    """What lists may hold."""

    def num_users(self, kind: str) -> int:
        """Users with a target of this kind."""
        return int(self.people.has_targets_UT[:, KINDS.index(kind)].sum())


def measure(
    users: DataFrame, task: ScoringTask, kit: Kit, entries: tuple[Entry, ...], *,
    window: str, ks: tuple[int, ...], catalogue_of: Callable[[Kit], Catalogue], partitions: int,
) -> Measured:  # fmt: skip
    """Score ``users`` (``targets.measured_users``, read twice) by every entry, through the published path.

    Per-user figures are made where the lists are: no sum crosses a shuffle. What comes to the driver is
    a row per measured user and recommender, so ``evaluation.max_users`` bounds it. ``kit`` is the task's.
    """
    deepest = max(ks)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scorer = task.scorer()
        catalogue = catalogue_of(scorer.kit)
        for batch in batches:
            if not batch.num_rows:
                continue
            everyone = batch_from_arrow(batch, task.signals, scorer.kit.segments)
            found = scorer.lists_by_entry(everyone, entries, deepest)
            for entry, lists in zip(entries, found, strict=True):
                metric_values = values_of_lists(lists, batch, ks)
                list_values = catalogue.figures(lists.padded(deepest), everyone, ks)
                yield _to_arrow(entry.recipe.name, batch, lists, metric_values, list_values)

    scored = in_partitions(users, partitions).mapInArrow(score, OUTPUT).toArrow().combine_chunks()
    people = People.of(users)
    by_user: dict[str, NDArray[np.float64]] = {}
    list_values: dict[str, NDArray[np.float64]] = {}
    lists: dict[str, NDArray[np.int32]] = {}
    for entry in entries:
        name = entry.recipe.name
        mine = scored.filter(pc.equal(scored.column("recommender"), name)).sort_by("user_id")
        values = _numpy(mine, "metric_values").reshape(-1, len(KINDS), len(METRICS), len(ks))
        by_user[name] = np.where(people.has_targets_UT[:, :, None, None], values, 0.0)
        list_values[name] = _numpy(mine, "list_values").reshape(-1, len(FIGURES), len(ks))
        lists[name] = _beginning(*flat_lists(mine.column("item_nums").combine_chunks()), deepest)
    return Measured(window, kit.as_of, ks, people, by_user, list_values, lists, kit.allowed)


def values_of_lists(
    lists: Lists, batch: pa.RecordBatch, ks: tuple[int, ...]
) -> NDArray[np.float64]:
    """[users, T, M, C] of one batch; ``batch`` has the columns of ``targets.TARGET_COLUMNS``."""
    lists_BK = lists.padded(max(ks))
    kinds = []
    for nums, count in (("target_nums", "num_targets"), ("first_nums", "num_first")):
        offsets, flat = flat_lists(batch.column(nums))
        counts = batch.column(count).to_numpy(zero_copy_only=False).astype(np.int64)
        kinds.append(metrics_by_user(hits(lists_BK, offsets, _int32(flat)), counts, ks))
    return np.stack(kinds, axis=1)


def _to_arrow(
    name: str, batch: pa.RecordBatch, lists: Lists,
    metric_values: NDArray[np.float64], list_values: NDArray[np.float64],
) -> pa.RecordBatch:  # fmt: skip
    list_offsets = pa.array(lists.offsets.astype(np.int32))
    columns = [
        pa.repeat(name, len(lists)),
        batch.column("user_id"),
        _rows_of(metric_values),
        _rows_of(list_values),
        pa.ListArray.from_arrays(list_offsets, pa.array(lists.item_nums)),
    ]
    names = ["recommender", "user_id", "metric_values", "list_values", "item_nums"]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _rows_of(values: NDArray[np.float64]) -> pa.ListArray:
    """A list per user, of all that is said of them."""
    width = int(np.prod(values.shape[1:]))
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))


def _beginning(offsets: NDArray[np.int64], nums: Any, width: int) -> NDArray[np.int32]:
    """[lists, width], 0 behind what is there."""
    lengths = np.diff(offsets)
    out = np.zeros((len(lengths), width), dtype=np.int32)
    out[np.arange(width) < lengths[:, None]] = _int32(nums)
    return out


def _ending(offsets: NDArray[np.int64], nums: Any) -> NDArray[np.int32]:
    """[lists, NEWEST], 0 before what is there."""
    lengths = np.diff(offsets)
    out = np.zeros((len(lengths), NEWEST), dtype=np.int32)
    out[np.arange(NEWEST) >= NEWEST - lengths[:, None]] = _int32(nums)
    return out


def _int32(values: Any) -> NDArray[np.int32]:
    found: NDArray[np.int32] = values.to_numpy(zero_copy_only=False).astype(np.int32)
    return found


def _ints(table: pa.Table, name: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = table.column(name).to_numpy().astype(np.int64)
    return values


def _numpy(table: pa.Table, name: str) -> NDArray[np.float64]:
    """The values of a list column, one after the other."""
    values: NDArray[np.float64] = (
        table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    )
    return values
