"""What is looked at while something else runs."""

from __future__ import annotations

import threading

import pytest

from recsys.watching import watching

PATIENCE_SECONDS = 30


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_it_looks_again_and_again_until_the_work_has_ended() -> None:
    looked = threading.Semaphore(0)

    with watching(looked.release, every_seconds=0.001, name="the-watcher"):
        assert "the-watcher" in threads()
        assert all(looked.acquire(timeout=PATIENCE_SECONDS) for _ in range(3))

    assert "the-watcher" not in threads()


def test_work_that_fails_is_watched_no_longer() -> None:
    with (
        pytest.raises(RuntimeError, match="the work"),
        watching(lambda: None, every_seconds=PATIENCE_SECONDS, name="the-watcher"),
    ):
        raise RuntimeError("the work")

    assert "the-watcher" not in threads()
