"""The memory of this process and of all that it started."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

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
    done = threading.Event()

    def sample() -> None:
        root = _root_process()
        while True:
            total = 0
            with suppress(psutil.Error):
                for process in [root, *root.children(recursive=True)]:
                    with suppress(psutil.Error):  # it has just ended
                        total += process.memory_info().rss
            peak[0] = max(peak[0], total)
            if done.wait(MEMORY_SAMPLE_SECONDS):
                return

    thread = threading.Thread(target=sample, name="peak-memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
