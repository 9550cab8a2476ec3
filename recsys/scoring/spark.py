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
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.config.shop import ShopConfig
from recsys.lake import Lake
from recsys.lake.as_of import known_before, numbers
from recsys.scoring.kit import Kit, open_kit, save_kit
from recsys.scoring.list_rules import Limited
from recsys.scoring.lists import SOURCES, Lists
from recsys.scoring.progress import progress
from recsys.scoring.returned import returned_items
from recsys.scoring.rule_counts import left_out_by_user
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.users import Ints, Signals, UserBatch, batch_from_arrow

log = structlog.get_logger()

INPUT = (
    "user_id", "segment", "user_num", "item_nums", "ages_days", "event_types", "seen_nums", "hidden_nums",
)  # fmt: skip
NAMES = ["user_id", "item_ids", "scores", "sources"]
OUTPUT = "user_id string, item_ids array<string>, scores array<float>, sources array<string>"

EVENTS_PER_USER = 128
"""A batch has at most so many history and seen items for each of ``scoring.batch_users``: what a batch takes in
memory and time is then the same where a few users have bought everything."""


@dataclass(frozen=True)
class ScoringTask:
    """What travels to the workers; small."""

    kit_folder: str
    rules: Rules
    signals: Signals
    batch_users: int
    threads: int = 1
    device: str = "cpu"

    def scorer(self) -> Scorer:
        """The worker's scorer; made once per Python worker."""
        device = self.device if self.device == "cpu" else _gpu_of_task()
        return _scorer(self.kit_folder, self.rules, self.batch_users, self.threads, device)


def _gpu_of_task() -> str:
    """In torch's words: the one that Spark gave this task, or the first where Spark hands none out."""
    task = TaskContext.get()
    gpus = task.resources().get("gpu") if task else None
    return f"cuda:{gpus.addresses[0]}" if gpus else "cuda:0"


@lru_cache(maxsize=2)
def _scorer(kit_folder: str, rules: Rules, batch_users: int, threads: int, device: str) -> Scorer:
    kit = open_kit(kit_folder)
    return Scorer(kit, rules, batch_users=batch_users, threads=threads, device=device)


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
    rules = Rules(config.shop.exclude_seen, config.rules.limits)
    try:
        scoring = config.scoring
        with progress(spark):
            yield ScoringTask(
                str(folder),
                rules,
                signals_of(config.shop),
                scoring.batch_users,
                scoring.threads,
                scoring.device,
            )
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


def users_to_score(
    lake: Lake, as_of: date, *, exclude_seen: bool, numbered: bool = False, returned_days: int = 0
) -> DataFrame:
    """Everyone with a history as of the day, and everyone in the users table; columns ``INPUT``.

    A user without a history has null lists and the segment of the users table. What is read of nobody is not joined:
    what a user has seen without ``exclude_seen``, that of the shop (null then), and the users' numbers without
    ``numbered``, which only the ranking model wants (0). ``returned_days`` is that of the section rules: how long
    what a user sent back is hidden from them.
    """
    histories = lake.read(contracts.HISTORIES, as_of=as_of).select(
        "user_id",
        F.col("segment").alias("history_segment"),
        "item_nums",
        "ages_days",
        "event_types",
    )
    people = lake.read_or_empty(contracts.USERS)
    hidden = None
    if returned_days:
        events = lake.read_or_empty(contracts.EVENTS)
        hidden = returned_items(events, lake.vocabulary(as_of), as_of=as_of, days=returned_days)
    return joined_users(
        histories,
        known_before(people, "user_id", as_of).select("user_id", "segment"),
        lake.read(contracts.SEEN_ITEMS, as_of=as_of) if exclude_seen else None,
        hidden,
        numbers(lake.vocabulary(as_of), "user") if numbered else None,
    )


def joined_users(
    histories: DataFrame,
    known: DataFrame,
    seen: DataFrame | None,
    hidden: DataFrame | None,
    numbered: DataFrame | None,
) -> DataFrame:
    """Columns ``INPUT`` of everyone with a history, and everyone known; ``histories`` has a ``history_segment``."""
    segment = F.coalesce("history_segment", "segment")
    users = histories.join(known, "user_id", "full").withColumn("segment", segment)
    no_items = F.lit(None).cast("array<int>")
    if seen is None:
        users = users.withColumn("seen_nums", no_items)
    else:
        seen_nums = seen.select("user_id", F.col("item_nums").alias("seen_nums"))
        users = users.join(seen_nums, "user_id", "left")
    if numbered is None:
        users = users.withColumn("user_num", F.lit(0))
    else:
        users = users.join(numbered, "user_id", "left")
    if hidden is None:
        users = users.withColumn("hidden_nums", no_items)
    else:
        users = users.join(hidden, "user_id", "left")
    return users.select(*INPUT)


def in_partitions(users: DataFrame, partitions: int) -> DataFrame:
    """Spread by user id, sorted within: the same users meet in the same order every time.

    So each file that is written of them is in the order of the lookup's key.
    """
    return users.repartition(partitions, "user_id").sortWithinPartitions("user_id")


def by_total_history(users: UserBatch, *, most_users: int, most_events: int) -> list[slice]:
    """Consecutive users with at most so many items in what they did and have seen; one user at least."""
    before = users.history_offsets + users.seen_offsets
    starts = [0]
    while (start := starts[-1]) < len(users):
        fits = int(np.searchsorted(before, before[start] + most_events, side="right")) - 1
        starts.append(min(max(fits, start + 1), start + most_users, len(users)))
    return [slice(start, stop) for start, stop in pairwise(starts)]


def score_users(
    users: DataFrame, task: ScoringTask, entry: Entry, *, n: int, partitions: int
) -> DataFrame:
    """One row per user: ``OUTPUT``; empty lists where everything is masked."""

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for user_ids, limited, _ in scored(batches, task, entry, n):
            columns = lists_to_arrow(limited.lists, task.scorer().kit.item_ids)
            yield pa.RecordBatch.from_arrays([user_ids, *columns], names=NAMES)

    return in_partitions(users.select(*INPUT), partitions).mapInArrow(score, OUTPUT)


def scored(
    batches: Iterable[pa.RecordBatch], task: ScoringTask, entry: Entry, n: int
) -> Iterator[tuple[pa.Array, Limited, Ints]]:
    """On a worker, of batches of ``INPUT``: user ids, their lists, and what ``rules_by_user`` kept from each."""
    scorer = task.scorer()
    most = dict(most_users=task.batch_users, most_events=EVENTS_PER_USER * task.batch_users)
    for batch in batches:
        everyone = batch_from_arrow(batch, task.signals, scorer.kit.segments)
        for rows in by_total_history(everyone, **most):
            found = everyone.slice(rows.start, rows.stop)
            limited = scorer.limited(found, entry, n)
            left_out = left_out_by_user(found, limited, scorer.kit, task.rules)
            yield batch.column("user_id")[rows], limited, left_out


def lists_to_arrow(lists: Lists, item_ids: pa.StringArray) -> list[pa.ListArray]:
    """item_ids, scores and sources of ``OUTPUT``; ``item_ids`` are the external ids by number."""
    item_ids_of, scores, sources = numbered_lists(lists, item_ids)
    return [_spelled_out(item_ids_of), scores, _spelled_out(sources)]


def numbered_lists(lists: Lists, item_ids: pa.StringArray) -> list[pa.ListArray]:
    """As ``lists_to_arrow``, with dictionaries for what the numbers stand for."""
    offsets = pa.array(lists.offsets.astype(np.int32))
    columns = (
        pa.DictionaryArray.from_arrays(pa.array(lists.item_nums), item_ids),
        pa.array(lists.scores),
        pa.DictionaryArray.from_arrays(pa.array(lists.sources), pa.array(SOURCES)),
    )
    return [pa.ListArray.from_arrays(offsets, column) for column in columns]


def _spelled_out(lists: pa.ListArray) -> pa.ListArray:
    return pa.ListArray.from_arrays(lists.offsets, lists.values.dictionary_decode())
