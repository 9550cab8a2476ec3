"""What is looked at every so often while something else runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watching(look: Callable[[], None], *, every_seconds: float, name: str) -> Iterator[None]:
    """Inside, a thread called ``name`` calls ``look``, the first time after ``every_seconds``; it has ended after."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every_seconds):
            look()

    thread = threading.Thread(target=watch, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
