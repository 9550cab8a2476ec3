"""How users reach the scorer: batches of bounded work, and a job that says how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import RecsysConfig
from recsys.scoring.progress import progress
from recsys.scoring.spark import by_total_history, scoring_task
from tests.scoring.worlds import kit_of, users_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

events = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30)
"""Of each user: how many of the history, and how many seen."""


@given(events=events, most_users=st.integers(1, 8), most_events=st.integers(0, 25))
def test_batches_hold_everyone_once_in_order_within_both_bounds(
    events: list[tuple[int, int]], most_users: int, most_events: int
) -> None:
    users = users_of([[1] * of for of, _ in events], seen=[[2] * of for _, of in events])

    batches = by_total_history(users, most_users=most_users, most_events=most_events)

    assert [row for rows in batches for row in range(rows.start, rows.stop)] == list(
        range(len(events))
    )
    for rows in batches:
        held = [sum(both) for both in events[rows]]
        assert 1 <= len(held) <= most_users
        assert sum(held) <= most_events or len(held) == 1
        if rows.stop < len(events) and len(held) < most_users:  # the next one did not fit
            assert sum(held) + sum(events[rows.stop]) > most_events


def test_users_without_any_history_fill_a_batch() -> None:
    users = users_of([[]] * 5)
    batches = by_total_history(users, most_users=2, most_events=0)
    assert batches == [slice(0, 2), slice(2, 4), slice(4, 5)]


@pytest.mark.spark
def test_a_task_works_on_the_threads_and_the_device_that_conf_gives_it(
    spark: SparkSession, config: RecsysConfig
) -> None:
    scoring = config.scoring.model_copy(update={"threads": 2})
    with scoring_task(spark, config.model_copy(update={"scoring": scoring}), kit_of(3), ()) as task:
        assert task.scorer()._retriever._threads == task.threads == 2
    scoring = scoring.model_copy(update={"device": "cuda"})
    with scoring_task(spark, config.model_copy(update={"scoring": scoring}), kit_of(3), ()) as task:
        assert task.device == "cuda"


@pytest.mark.spark
def test_a_long_job_says_how_far_it_is(spark: SparkSession, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    heard = tmp_path / "heard"

    def say(tasks: int, of: int) -> None:
        told.append((tasks, of))
        if told[-1][0] >= 1:
            heard.touch()

    path = str(heard)

    def second_task_waits(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import time
        from pathlib import Path

        from pyspark import TaskContext

        context = TaskContext.get()
        while context is not None and context.partitionId() == 1 and not Path(path).exists():
            time.sleep(0.01)
        yield from batches

    with progress(spark, say=say, every_seconds=0.02):
        assert spark.range(4, numPartitions=2).mapInArrow(second_task_waits, "id long").count() == 4

    assert (1, 2) in told
