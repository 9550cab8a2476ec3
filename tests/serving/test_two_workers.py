"""Two workers of granian's over one snapshot: both answer, and what changes reaches both."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import httpx
import pytest

from recsys.blocked import block_item
from recsys.config.places import PathsConfig
from recsys.release.pins import roll_back
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


def seen(server: Server) -> Seen:
    """What every worker says now; each connection goes to the one that the kernel picks, and stays there."""
    found: Seen = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found) < WORKERS:
        assert time.monotonic() < deadline, f"only {set(found)} answer"
        with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as connection:
            answer = connection.get("/v1/users/ana/recommendations?n=3").json()
            ready = connection.get("/readyz").json()
        worker = re.sub(
            "-[0-9a-f]+$", "", answer["request_id"]
        )  # its beginning is the process's own
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
