"""A rank that stops answering is named, with the step and what it was doing; one that is slow is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from recsys.config.places import CHECKOUT
from recsys.training import heartbeat
from recsys.training.heartbeat import EXIT_STOPPED_ANSWERING, Heartbeat


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 0.02)


class Heard:
    """What a rank's heartbeat gave up with."""

    def __init__(self) -> None:
        self.text = ""
        self.said = threading.Event()

    def __call__(self, text: str) -> None:
        self.text = text
        self.said.set()


def test_a_rank_that_ended_without_a_word_is_named_with_its_place(tmp_path: Path) -> None:
    heard = Heard()
    with Heartbeat(tmp_path, 0, 2, timeout_seconds=0.5, give_up=heard) as mine:
        with Heartbeat(tmp_path, 1, 2, timeout_seconds=60) as other:
            other.beat(41, "computing")
            mine.beat(41, "asking the tables")
            wait_for(tmp_path / "heartbeat-1.json", '"step": 41')
        assert heard.said.wait(10)
    assert heard.text.startswith(
        "rank 1 has stopped answering for 0 s, last at step 41, computing (seen by rank 0"
    )


def test_ranks_that_live_and_come_no_further_are_ended_and_the_one_behind_is_named(
    tmp_path: Path,
) -> None:
    heard = Heard()
    with ExitStack() as running:
        ranks = [
            running.enter_context(Heartbeat(tmp_path, r, 3, timeout_seconds=1, give_up=heard))
            for r in range(3)
        ]
        for rank in ranks:
            rank.beat(7, "computing")
        for rank in (ranks[0], ranks[2]):
            rank.beat(7, "updating the tables")
        assert heard.said.wait(10)
    assert heard.text.startswith(
        "rank 1 has come no further for 1 s, last at step 7, computing (seen by"
    )


class Clock:
    """Seconds that the test lets pass."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_rank_that_waits_for_a_slow_one_is_not_ended(tmp_path: Path) -> None:
    clock = Clock()
    waiting, slow = (Heartbeat(tmp_path, r, 2, timeout_seconds=60, now=clock) for r in range(2))
    for step in range(20):
        slow.beat(step, "computing")
        assert [slow._look(step), waiting._look(step)] == ["", ""]
        clock.seconds += 50
    clock.seconds += 20  # 70 since the last step
    assert "rank 0 has come no further for 60 s" in slow._look(20) + waiting._look(20)


def test_a_folder_that_fails_for_a_moment_ends_nothing_and_the_watch_goes_on(
    tmp_path: Path,
) -> None:
    folder, clock = tmp_path / "work", Clock()
    folder.mkdir()
    heart = Heartbeat(folder, 0, 1, timeout_seconds=60, now=clock)
    assert heart._look(1) == ""
    folder.rename(tmp_path / "away")
    for _ in range(2):
        assert heart._look(2) == ""
        clock.seconds += 50
    (tmp_path / "away").rename(folder)
    heart.beat(1, "computing")
    assert heart._look(3) == ""
    folder.rename(tmp_path / "gone")
    assert heart._look(4) == ""
    clock.seconds += 61
    said = heart._look(5)
    assert said.startswith("rank 0 could not say or hear who lives for 60 s, in ")
    assert "FileNotFoundError" in said


def test_half_a_file_of_another_rank_is_waited_for(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path, 0, 2, timeout_seconds=60, now=Clock())
    (tmp_path / "heartbeat-1.json").write_text("{")
    assert heart._look(1) == ""


STOPPED = """
import sys
from pathlib import Path
from recsys.training.heartbeat import Heartbeat
with Heartbeat(Path(sys.argv[1]), int(sys.argv[2]), 2, timeout_seconds=2) as heart:
    heart.beat(3, "computing")
    print("up", flush=True)
    sys.stdin.read()
"""


def test_a_stopped_process_ends_the_other_with_an_error_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPED, str(tmp_path)]
    ranks = [
        subprocess.Popen(
            [*command, str(rank)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT
        )
        for rank in range(2)
    ]
    try:
        for rank in ranks:
            assert rank.stdout is not None
            assert rank.stdout.readline() == b"up\n"
        wait_for(tmp_path / "heartbeat-1.json", '"step": 3')
        os.kill(ranks[1].pid, signal.SIGSTOP)
        assert ranks[0].wait(timeout=30) == EXIT_STOPPED_ANSWERING
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    fact = json.loads((tmp_path / "error-0.json").read_text())
    assert fact["kind"] == ""
    assert "rank 1 has stopped answering for 2 s, last at step 3, computing" in fact["message"]


def wait_for(path: Path, text: str) -> None:
    deadline = threading.Event()
    for _ in range(1000):
        if path.exists() and text in path.read_text():
            return
        deadline.wait(0.01)
    raise AssertionError(f"{path} never said {text}")
