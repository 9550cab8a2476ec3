"""What a night measures, of a million users: what it takes on Spark, and what of it comes to the driver.

    make bench-evaluate_on_spark
    make bench-evaluate_on_spark ARGS=--quick

A made-up shop: 20,000 items with 20 neighbours each, users of 5 to 20 events with 1 to 5 targets, in 6 segments. Item
similarity, transitions and popularity stand for the recommenders: lists of 20 by the compiled stage 1, all ranking
metrics at three cut-offs, figures of lists, parts, and 1,000 resamples. Two numbers of users, one ten times the other;
the bytes are those of the rows that the driver is sent.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.dataframe import DataFrame as ClassicDataFrame
from scipy.sparse import csr_array

from benchmarks.paired import Condition, arguments
from recsys.config.places import SparkConfig
from recsys.evaluation.catalogue import Catalogue
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.list_figures import GROUPS
from recsys.evaluation.measured import Measured
from recsys.evaluation.measuring import measure
from recsys.evaluation.recommenders import BLEND, ITEM_ITEM, POPULARITY, TRANSITIONS
from recsys.evaluation.slices import Slicing
from recsys.evaluation.tally import Plan
from recsys.lake import spark_session
from recsys.scoring.kit import Kit, save_kit
from recsys.scoring.scorer import Entry, Rules
from recsys.scoring.spark import ScoringTask
from recsys.scoring.users import Signals

CORES, PARTITIONS = 2, 16
KS, ROUNDS = (5, 10, 20), 1000
SEGMENTS = ("", "a", "b", "c", "d", "e")
AS_OF = date(2024, 6, 1)
ENTRIES = (
    Entry(ITEM_ITEM.model_copy(update={"name": BLEND})),
    Entry(TRANSITIONS),
    Entry(POPULARITY),
)
CASE = "what comes to the driver of a million users, to what comes of 100,000"


@dataclass(frozen=True)
class Size:
    users: int = 100_000
    times: int = 10
    items: int = 20_000
    neighbours: int = 20


def shop(size: Size) -> Kit:
    draw = np.random.default_rng(3)
    width = size.items + 1
    return Kit(
        as_of=AS_OF,
        item_ids=pa.array(["", *(f"i{num}" for num in range(1, width))]),
        allowed=np.arange(width) > 0,
        groups={"category": (np.arange(width) % 50).astype(np.int32)},
        buyers=csr_array(draw.poisson(20, (len(SEGMENTS), width)).astype(np.float64)),
        segments=SEGMENTS,
        similarity=neighbours(size, draw),
        transitions=neighbours(size, draw),
    )


def neighbours(size: Size, draw: np.random.Generator) -> csr_array:
    """The items after each, with scores."""
    nums = (np.arange(size.items)[:, None] + np.arange(1, size.neighbours + 1)) % size.items + 1
    offsets = np.concatenate([[0], np.arange(size.items + 1) * size.neighbours])
    values = draw.random(nums.size)
    return csr_array((values, nums.ravel(), offsets), shape=(size.items + 1,) * 2)


def walk(first: Column, length: Column, items: int) -> Column:
    """Every third item from one on."""
    steps = F.sequence(F.lit(1), length)
    return F.transform(steps, lambda n: (F.pmod(first + n * 3, F.lit(items)) + 1).cast("int"))


def people(spark: SparkSession, size: Size, users: int) -> DataFrame:
    """Columns of ``targets.measured_users``; made where they are read, so that nothing of them is kept."""
    start = F.pmod(F.xxhash64("id"), F.lit(size.items))
    num_events, num_targets = F.pmod("id", F.lit(16)) + 5, F.pmod("id", F.lit(5)) + 1
    nothing = F.lit(None).cast("array<int>")
    targets = F.array_sort(walk(start + num_events * 3, num_targets, size.items))
    segment = F.element_at(F.array(*map(F.lit, SEGMENTS)), (F.pmod("id", F.lit(6)) + 1).cast("int"))
    item_nums = walk(start, num_events, size.items)
    return spark.range(users).select(
        F.format_string("u%09d", "id").alias("user_id"), segment.alias("segment"),
        F.lit(0).alias("user_num"), item_nums.alias("item_nums"),
        F.transform(item_nums, lambda _: F.lit(3.0).cast("float")).alias("ages_days"),
        F.transform(item_nums, lambda _: F.lit("purchase")).alias("event_types"),
        nothing.alias("seen_nums"), nothing.alias("hidden_nums"),
        targets.alias("target_nums"), num_targets.alias("num_targets"),
        targets.alias("first_nums"), num_targets.alias("num_first"),
        F.xxhash64("id", F.lit(17)).alias("sample_order"),
    )  # fmt: skip


@dataclass
class Received:
    """Bytes of the rows that this process was sent."""

    bytes: int = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        to_arrow = ClassicDataFrame.toArrow

        def counting(frame: ClassicDataFrame) -> pa.Table:
            table = to_arrow(frame)
            self.bytes += table.nbytes
            return table

        with patch.object(ClassicDataFrame, "toArrow", counting):
            yield


def measured(
    spark: SparkSession, kit: Kit, folder: Path, size: Size, users: int
) -> tuple[Measured, int]:
    """What was measured, and the bytes that came here."""
    nums = np.arange(kit.width)
    items = ItemFacts((), (), kit.width - nums, nums % 97 + 0.5)
    names = tuple(entry.recipe.name for entry in ENTRIES)
    ends = (np.arange(1, GROUPS) * 2**53 // GROUPS - 2**52).tolist()
    plan = Plan(KS, ROUNDS, 17, Slicing.of(SEGMENTS, items), names, tuple(ends))
    task = ScoringTask(str(folder), Rules(), Signals(("purchase",), (1.0,), (True,)), 1024)
    catalogue_of = partial(Catalogue.of, num_buyers=100_000, vectors_of="")
    received = Received()
    with received.counted():
        found = measure(
            people(spark, size, users), task, kit, ENTRIES, plan,
            window="measuring", catalogue_of=catalogue_of, partitions=PARTITIONS,
        )  # fmt: skip
    return found, received.bytes


def run(spark: SparkSession, folder: Path, size: Size) -> None:
    kit = shop(size)
    saved = save_kit(kit, {}, folder)
    taken, received = {}, {}
    for users in (size.users, size.users * size.times):
        started = time.perf_counter()
        found, received[users] = measured(spark, kit, saved, size, users)
        taken[users] = time.perf_counter() - started
        if found.num_users != users:
            raise AssertionError(f"{found.num_users} users were measured, of {users}")
        ndcg = found.estimate(BLEND, "all", "ndcg", 10)
        print(
            f"{users:,} users: {taken[users]:.1f} s, {received[users]:,} bytes to the driver; NDCG@10 of the blend "
            f"{ndcg.value:.5f} [{ndcg.low:.5f}, {ndcg.high:.5f}]",
            flush=True,
        )
    few, many = received
    Condition("evaluate_on_spark", CASE).report(
        [received[many] / received[few]],
        measured=size == Size(),
        users=many,
        seconds=round(taken[many], 1),
        users_per_second=round((many - few) / (taken[many] - taken[few])),
        recommenders=len(ENTRIES),
    )


def main() -> None:
    asked = arguments(__doc__).parse_args()
    size = Size(users=10_000, items=5_000) if asked.quick else Size()
    config = SparkConfig(master=f"local[{CORES}]", driver_memory="4g")
    with (
        tempfile.TemporaryDirectory() as folder,
        spark_session("evaluate_on_spark", config) as spark,
    ):
        run(spark, Path(folder), size)


if __name__ == "__main__":
    main()
