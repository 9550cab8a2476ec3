"""The Spark side of scoring: who is scored, and lists through ``mapInArrow``.

The kit is opened once per Python worker (``open_kit`` caches it by name), memory-mapped, so that
workers share its pages. No Python object is made per row.
"""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.config.shop import ShopConfig
from recsys.lake import Lake
from recsys.lake.as_of import known_before, numbers
from recsys.scoring.kit import Kit, open_kit, save_kit
from recsys.scoring.lists import SOURCES, Lists
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.users import Signals, batch_from_arrow

log = structlog.get_logger()

INPUT = ("user_id", "segment", "user_num", "item_nums", "ages_days", "event_types", "seen_nums")
OUTPUT = "user_id string, item_ids array<string>, scores array<float>, sources array<string>"


@dataclass(frozen=True)
class ScoringTask:
    """What travels to the workers; small."""

    kit_folder: str
    rules: Rules
    signals: Signals
    batch_users: int

    def scorer(self) -> Scorer:
        """The worker's scorer; made once per Python worker."""
        return _scorer(self.kit_folder, self.rules, self.batch_users)


@lru_cache(maxsize=2)
def _scorer(kit_folder: str, rules: Rules, batch_users: int) -> Scorer:
    return Scorer(open_kit(kit_folder), rules, batch_users=batch_users)


def signals_of(shop: ShopConfig) -> Signals:
    """What event types mean, from conf."""
    return Signals(
        tuple(shop.signals),
        tuple(signal.weight for signal in shop.signals.values()),
        tuple(signal.target for signal in shop.signals.values()),
    )


@contextmanager
def scoring_task(
    spark: SparkSession,
    config: RecsysConfig,
    kit: Kit,
    models: tuple[str, ...],
    rankings: tuple[str, ...] = (),
) -> Iterator[ScoringTask]:
    """Write the kit where workers find it, and drop it at the end.

    ``models`` and ``rankings`` have been checked (``open_bundle``, ``open_ranking``). A kit that a killed
    run left is used again.
    """
    folder = save_kit(
        kit,
        {version: config.paths.models / version for version in models},
        config.paths.work / "scoring",
        rankings={version: config.paths.models / version for version in rankings},
    )
    if not config.spark.master.startswith("local"):
        ship(spark, folder)
    rules = Rules(config.shop.exclude_seen, config.scoring.max_per_category)
    try:
        yield ScoringTask(str(folder), rules, signals_of(config.shop), config.scoring.batch_users)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ship(spark: SparkSession, folder: Path) -> None:
    """Send a kit to workers that do not share the work folder; ``open_kit`` finds it there.

    An archive, because Spark sends no local folders off one machine. It stays until this process ends:
    an executor that starts later asks for it.
    """
    archive = shutil.make_archive(str(folder), "zip", folder)
    atexit.register(Path(archive).unlink, missing_ok=True)
    spark.sparkContext.addArchive(f"{archive}#{folder.name}")


def users_to_score(lake: Lake, as_of: date, *, numbered: bool = False) -> DataFrame:
    """Everyone with a history as of the day, and everyone in the users table; columns ``INPUT``.

    A user without a history has null lists and the segment of the users table. ``numbered`` joins the
    users' numbers, a row per user, which only the ranking model reads; without it they are 0.
    """
    histories = lake.read(contracts.HISTORIES, as_of=as_of).select(
        "user_id",
        F.col("segment").alias("history_segment"),
        "item_nums",
        "ages_days",
        "event_types",
    )
    known = known_before(lake.read_or_empty(contracts.USERS), "user_id", as_of).select(
        "user_id", "segment"
    )
    seen = lake.read(contracts.SEEN_ITEMS, as_of=as_of).select(
        "user_id", F.col("item_nums").alias("seen_nums")
    )
    users = (
        histories.join(known, "user_id", "full")
        .withColumn("segment", F.coalesce("history_segment", "segment"))
        .join(seen, "user_id", "left")
    )
    if numbered:
        users = users.join(numbers(lake.vocabulary(as_of), "user"), "user_id", "left")
    else:
        users = users.withColumn("user_num", F.lit(0))
    return users.select(*INPUT)


def in_partitions(users: DataFrame, partitions: int) -> DataFrame:
    """Spread by user id, sorted within: the same users meet in the same order every time."""
    return users.repartition(partitions, "user_id").sortWithinPartitions("user_id")


def score_users(
    users: DataFrame, task: ScoringTask, entry: Entry, *, n: int, partitions: int
) -> DataFrame:
    """One row per user: ``OUTPUT``; empty lists where everything is masked."""

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scorer = task.scorer()
        for batch in batches:
            if batch.num_rows:
                lists = scorer.lists(
                    batch_from_arrow(batch, task.signals, scorer.kit.segments), entry, n
                )
                yield _to_arrow(batch.column("user_id"), lists, scorer.kit)

    return in_partitions(users.select(*INPUT), partitions).mapInArrow(score, OUTPUT)


def _to_arrow(user_ids: pa.Array, lists: Lists, kit: Kit) -> pa.RecordBatch:
    offsets = pa.array(lists.offsets.astype(np.int32))
    columns = [
        user_ids,
        pa.ListArray.from_arrays(offsets, kit.item_ids.take(pa.array(lists.item_nums))),
        pa.ListArray.from_arrays(offsets, pa.array(lists.scores)),
        pa.ListArray.from_arrays(offsets, pa.array(SOURCES).take(pa.array(lists.sources))),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["user_id", "item_ids", "scores", "sources"])
