"""Two workers of granian's over one snapshot: both answer, and what changes reaches both."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from tempfile import gettempdir

import httpx
import pytest

from recsys.blocked import block_item
from recsys.config.places import PathsConfig
from recsys.release.pins import roll_back
from recsys.serving.all_workers import PLACES
from tests.release.making import NOON, USERS, make_live, make_release, places
from tests.serving.operations.servers import PATIENCE_SECONDS, Server, free_port, running
from tests.serving.test_http import RECSYS

DAY, NEXT_DAY = date(2024, 6, 1), date(2024, 6, 2)
WORKERS = 2
Seen = dict[str, tuple[str, str, list[str]]]
"""Worker -> the release it answers from, its state, and what it offers ana."""


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    return PathsConfig(root=str(tmp_path))


@pytest.fixture
def first(paths: PathsConfig) -> str:
    return make_release(paths, DAY).release_id


@pytest.fixture
def server(paths: PathsConfig, first: str) -> Iterator[Server]:
    port = free_port()
    settings = (f"paths.root={paths.root}", f"serving.port={port}", f"serving.workers={WORKERS}",
                "serving.poll_seconds=0.05", "serving.blocked_poll_seconds=0.05")  # fmt: skip
    command = [RECSYS, "serve", *(part for one in settings for part in ("--set", one))]
    with running(command, port, "/readyz") as server:
        yield server


def shared_by_workers(server: Server) -> Path:
    """The folder that the service made for its workers."""
    name = f"recsys-serve-{server.process.pid}-*"
    [folder] = (found for place in PLACES for found in Path(place or gettempdir()).glob(name))
    return folder


def worker_of(answer: dict[str, str]) -> str:
    """The beginning of a request's id is the process's own."""
    return re.sub("-[0-9a-f]+$", "", answer["request_id"])


def seen(server: Server) -> Seen:
    """What every worker says now; each connection goes to the one that the kernel picks, and stays there."""
    found: Seen = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found) < WORKERS:
        assert time.monotonic() < deadline, f"only {set(found)} answer"
        with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as connection:
            answer = connection.get("/v1/users/ana/recommendations?n=3").json()
            ready = connection.get("/readyz").json()
        worker = worker_of(answer)
        items = [item["item_id"] for item in answer["items"]]
        found[worker] = (answer["release"], ready["problem"], items)
    return found


def until_both(server: Server, release: str, items: list[str]) -> set[str]:
    """Wait until both workers answer so; returns them."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    wanted = (release, "", items)
    found = seen(server)
    while set(map(repr, found.values())) != {repr(wanted)}:
        assert time.monotonic() < deadline, found
        found = seen(server)
    return set(found)


def test_a_swap_a_block_and_a_roll_back_reach_both_workers(
    server: Server, paths: PathsConfig, first: str
) -> None:
    workers = until_both(server, first, ["tea", "cup", "pot"])

    lists = {**USERS, "ana": places("jug", "tea", "cup")}
    second = make_release(paths, NEXT_DAY, users=lists, live=False).release_id
    make_live(paths, second)
    assert until_both(server, second, ["jug", "tea", "cup"]) == workers

    block_item(paths, "tea", reason="recalled", now=NOON)
    assert until_both(server, second, ["jug", "cup"]) == workers

    roll_back(paths, first, reason="bad lists", now=NOON)
    assert until_both(server, first, ["cup", "pot"]) == workers  # no worker was started anew


class Scrapes:
    """Lookups, and after each few a scrape by the same connection, which must never tell less than one before."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.asked = 0
        self._highest = 0.0
        self.told: dict[str, float] = {}
        """Worker -> the lookups of all workers, as it told last."""

    def another(self, lookups: int) -> None:
        with httpx.Client(base_url=self._server.address, timeout=PATIENCE_SECONDS) as connection:
            for _ in range(lookups):
                assert connection.get("/v1/users/ana/recommendations").status_code == 200
            self.asked += lookups
            worker = worker_of(connection.get("/v1/popular").json())
            text = connection.get("/metrics").text
        [told] = re.findall(
            r'^recsys_answers_total\{source="personal"\} (\S+)$', text, re.MULTILINE
        )
        assert self._highest <= float(told) <= self.asked
        self._highest = self.told[worker] = float(told)

    def until_both_tell_of_all(self) -> set[str]:
        """Wait until two workers answer and each tells of every lookup; returns them."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while list(self.told.values()) != [self.asked] * WORKERS:
            assert time.monotonic() < deadline, (self.told, self.asked)
            self.told = {}
            for _ in range(10):
                self.another(lookups=0)
        return set(self.told)


def test_whichever_worker_is_scraped_tells_of_both(server: Server) -> None:
    scrapes = Scrapes(server)
    while len(scrapes.told) < WORKERS or scrapes.asked < 60:
        scrapes.another(lookups=3)
    scrapes.until_both_tell_of_all()
    assert server.metric('recsys_snapshot_keys{kind="users"}') == len(USERS)

    folder = shared_by_workers(server)
    assert len(list(folder.glob("*.json"))) == WORKERS
    server.told_to_end()
    assert server.ended() == 0
    assert not folder.exists()


@pytest.mark.slow
def test_workers_that_are_started_anew_go_on_from_what_the_old_ones_counted(
    server: Server,
) -> None:
    """SIGHUP: granian starts one worker after the other anew, and ends the old one 3.5 s later."""
    scrapes = Scrapes(server)
    while len(scrapes.told) < WORKERS:
        scrapes.another(lookups=3)
    old = scrapes.until_both_tell_of_all()

    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not old.isdisjoint(scrapes.told):
        assert time.monotonic() < deadline, (old, scrapes.told)
        scrapes.told = {}
        for _ in range(10):
            scrapes.another(lookups=1)
    assert scrapes.until_both_tell_of_all().isdisjoint(old)
    assert len(list(shared_by_workers(server).glob("*.json"))) == 2 * WORKERS
