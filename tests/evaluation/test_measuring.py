"""From users and their lists to what is added up, on literal rows; and on Spark, whatever the number of partitions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from recsys.evaluation.block import People
from recsys.evaluation.catalogue import Catalogue
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.measuring import block_of, measure
from recsys.evaluation.recommenders import BLEND, POPULARITY, TRANSITIONS
from recsys.evaluation.slices import Part, Slicing
from recsys.evaluation.tally import Plan
from recsys.scoring.kit import Kit, save_kit
from recsys.scoring.lists import Lists
from recsys.scoring.scorer import Entry, Rules
from recsys.scoring.spark import ScoringTask
from recsys.scoring.users import Signals, batch_from_arrow
from tests.scoring.worlds import kit_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SIGNALS = Signals(("purchase",), (1.0,), (True,))
SCHEMA = {
    "user_id": pa.string(), "segment": pa.string(), "user_num": pa.int32(), "item_nums": pa.list_(pa.int32()),
    "ages_days": pa.list_(pa.float32()), "event_types": pa.list_(pa.string()), "seen_nums": pa.list_(pa.int32()),
    "hidden_nums": pa.list_(pa.int32()), "target_nums": pa.list_(pa.int32()), "num_targets": pa.int64(),
    "first_nums": pa.list_(pa.int32()), "num_first": pa.int64(), "sample_order": pa.int64(),
}  # fmt: skip
NUM_ITEMS = 9


def row(
    user_id: str, had: list[int], targets: list[int], first: list[int], **others: object
) -> dict[str, object]:
    """A user of ``targets.measured_users``; the targets are all known."""
    return {
        "user_id": user_id, "segment": None, "user_num": 0, "item_nums": had, "ages_days": [1.0] * len(had),
        "event_types": ["purchase"] * len(had), "seen_nums": None, "hidden_nums": None,
        "target_nums": targets, "num_targets": len(targets), "first_nums": first, "num_first": len(first),
        "sample_order": 0, **others,
    }  # fmt: skip


def batch_of(*rows: dict[str, object]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=pa.schema(SCHEMA))


def circle() -> Kit:
    """After item n comes item n + 1."""
    following = [(num, num % NUM_ITEMS + 1, 1.0) for num in range(1, NUM_ITEMS + 1)]
    return kit_of(
        NUM_ITEMS, transitions=following, buyers=[range(NUM_ITEMS + 1)], categories=[0, 1, 2] * 3
    )


def test_people_are_who_the_rows_say() -> None:
    batch = batch_of(
        row("ana", [1, 2, 3, 4, 5, 6, 7], [2, 8], [8], segment="home", sample_order=-1),
        row("ben", [9], [3], [], num_targets=4, num_first=2),
    )

    found = People.of(batch)

    assert found.user_ids == ("ana", "ben") and found.segments == ("home", "")
    assert found.keys_U.tolist() == [2**64 - 1, 0]
    assert found.num_events_U.tolist() == [7, 1]
    assert found.newest_UK.tolist() == [[3, 4, 5, 6, 7], [0, 0, 0, 0, 9]]
    assert found.targets.item_nums.tolist() == [2, 8, 3]
    assert found.targets.counts.tolist() == [2, 4] and found.num_first_U.tolist() == [1, 2]
    assert People.of(batch.slice(1)).newest_UK.tolist() == [[0, 0, 0, 0, 9]]


def test_a_block_judges_lists_by_all_targets_and_by_first_ones() -> None:
    batch = batch_of(row("ana", [1], [2, 8], [8]), row("ben", [9], [3], []))
    lists = Lists(
        np.array([0, 2, 3]),
        np.array([2, 8, 1], np.int32),
        np.ones(3, np.float32),
        np.zeros(3, np.int8),
    )
    users = batch_from_arrow(batch, SIGNALS, ("",))

    found = block_of({BLEND: lists}, batch, users, Catalogue.of(circle(), 9, ""), (1, 10))

    recall = found.by_user[BLEND][:, :, 0]
    assert recall.tolist() == [[[0.5, 1.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]
    assert found.lists[BLEND][:, :3].tolist() == [[2, 8, 0], [1, 0, 0]]


@pytest.mark.spark
def test_spark_adds_up_the_same_whatever_the_number_of_partitions(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Six users over nine partitions leave some empty."""
    rows = [
        row(f"u{n}", [n, n + 1], [(n + 1) % NUM_ITEMS + 1], [], segment="home" if n % 2 else None, sample_order=n << 60)
        for n in range(1, 7)
    ]  # fmt: skip
    users = spark.createDataFrame(pa.Table.from_batches([batch_of(*rows)]))
    kit = circle()
    task = ScoringTask(str(save_kit(kit, {}, tmp_path)), Rules(), SIGNALS, 1024)
    nums = np.arange(NUM_ITEMS + 1)
    slicing = Slicing.of(("", "home"), ItemFacts((), (), NUM_ITEMS - nums, nums.astype(float)))
    ends = tuple(n << 60 for n in range(1, 6))
    plan = Plan((1, 10), 200, 1, slicing, (BLEND, "popularity"), ends)
    entries = (Entry(TRANSITIONS.model_copy(update={"name": BLEND})), Entry(POPULARITY))

    one, nine = (
        measure(
            users, task, kit, entries, plan,
            window="measuring", catalogue_of=catalogue, partitions=partitions,
        )
        for partitions in (1, 9)
    )  # fmt: skip

    assert one.num_users == 6
    assert one.estimate(BLEND, "all", "recall", 1).value == 1  # the next item in the circle
    assert one.estimate("popularity", "all", "recall", 1).value < 0.5
    assert np.isnan(one.estimate(BLEND, "first", "recall", 1).value)
    assert one.sliced.estimate(BLEND, Part("segment", "home"), "recall").num_users == 3
    assert one.of_shop(BLEND, "coverage", 1).value == 6 / NUM_ITEMS
    for name in one.names:
        for mine, its in (
            (one.metrics, nine.metrics),
            (one.each_list, nine.each_list),
            (one.sliced.means, nine.sliced.means),
        ):
            np.testing.assert_array_equal(mine[name].by_round_KGX, its[name].by_round_KGX)
            np.testing.assert_array_equal(mine[name].values_GX, its[name].values_GX)
    assert repr(one.whole_shop) == repr(nine.whole_shop) and one.seen == nine.seen


def catalogue(kit: Kit) -> Catalogue:
    return Catalogue.of(kit, NUM_ITEMS, "")
