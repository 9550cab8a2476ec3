"""Fifty publishes killed at moments drawn at random, under a service that is asked all the time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recsys.config import RecsysConfig
from recsys.release.opening import open_release
from recsys.release.pointer import live_release, release_folder
from tests.release.asking import asked, service
from tests.release.shop import write_shop

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(3600)]
CHECKOUT = Path(__file__).parents[2]
KILLS = 50
MOST_ATTEMPTS = 2 * KILLS


@contextmanager
def publisher(config: RecsysConfig, *numbers: int) -> Iterator[subprocess.Popen[str]]:
    """The process, and the end of all that it started."""
    command = [sys.executable, "-m", "tests.release.publisher", config.paths.root]
    process = subprocess.Popen(
        [*command, *map(str, numbers)], cwd=CHECKOUT, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def says(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == words:
            return
    raise AssertionError(f"{words!r} was not said; it ended with {process.wait()}")


def killed_within(config: RecsysConfig, number: int, seconds: float) -> bool:
    """Kill -9 that long after the publish of ``number`` began; whether that was before its end."""
    with publisher(config, number) as process:
        says(process, f"publishing {number}")
        time.sleep(seconds)  # the moment that was drawn
        os.killpg(process.pid, signal.SIGKILL)
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait() == -signal.SIGKILL
    return f"published {number}" not in rest


def test_fifty_random_kills_and_every_answer_is_of_one_whole_release(config: RecsysConfig) -> None:
    write_shop(Path(config.paths.lake_uri))
    draw = random.Random(17)
    with publisher(config, 1, 2) as process:
        says(process, "publishing 2")  # a second one is as fast as those to come
        started = time.monotonic()
        says(process, "published 2")
        seconds = time.monotonic() - started
        assert process.wait() == 0

    number, landed, attempts = 3, 0, 0
    with service(config.paths) as server, asked(server) as seen:
        while landed < KILLS:
            attempts += 1
            assert attempts <= MOST_ATTEMPTS, f"{landed} of {attempts} kills landed in a publish"
            # The first publish of a process takes longer than its second: what is drawn reaches past both ends.
            within = killed_within(config, number, draw.uniform(0, 2 * seconds))
            landed += within
            number += (
                not within or draw.random() < 0.5
            )  # the same again, or newer lists in its place
            live = live_release(config.paths)
            assert live is not None
            open_release(release_folder(config.paths, live.release_id)).close()
        with publisher(config, number, number) as process:
            says(process, f"published {number}")
            assert process.wait() == 0
        newest = live_release(config.paths)
        assert newest is not None
        seen.until_served(newest.release_id)

    assert not seen.wrong
    assert all(len(numbers) == 1 for numbers in seen.numbers.values()), seen.numbers
    assert seen.numbers[newest.release_id] == {str(number)}
    assert len(seen.numbers) > 1, "some killed publish had moved the pointer, or the last one did"
    left = [path.name for path in config.paths.releases.iterdir() if path.name.startswith(".")]
    assert not left
