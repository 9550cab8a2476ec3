"""The memory of this process and of all that it started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from recsys.watching import watching

MEMORY_SAMPLE_SECONDS = 0.5


def _root_process() -> psutil.Process:
    """This process, or the JVM that started it: under spark-submit Python is the child."""
    this = psutil.Process()
    parent = this.parent()
    return parent if parent is not None and parent.name() == "java" else this


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yields a list whose one item becomes the peak resident bytes of this process tree."""
    peak = [0.0]
    root = _root_process()

    def sample() -> None:
        total = 0
        with suppress(psutil.Error):
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error):  # it has just ended
                    total += process.memory_info().rss
        peak[0] = max(peak[0], total)

    sample()
    with watching(sample, every_seconds=MEMORY_SAMPLE_SECONDS, name="peak-memory"):
        yield peak
