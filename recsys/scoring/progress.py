"""How far the tasks of a Spark job are, said in the log while the job runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from pyspark.sql import SparkSession

from recsys.watching import watching

log = structlog.get_logger()

EVERY_SECONDS = 30.0


def log_progress(tasks: int, of: int) -> None:
    log.info("scoring_progress", tasks_done=tasks, of=of)


@contextmanager
def progress(
    spark: SparkSession,
    *,
    say: Callable[[int, int], None] = log_progress,
    every_seconds: float = EVERY_SECONDS,
) -> Iterator[None]:
    """Inside, ``say`` is told the finished tasks and all tasks of the stages under way; quick jobs end before.

    A task's rows are not counted before it ends, so tasks it is.
    """
    tracker = spark.sparkContext.statusTracker()

    def look() -> None:
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        if there := [stage for stage in stages if stage is not None]:
            say(sum(s.numCompletedTasks for s in there), sum(s.numTasks for s in there))

    with watching(look, every_seconds=every_seconds, name="progress"):
        yield
