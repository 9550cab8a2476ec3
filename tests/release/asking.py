"""Services beside a publish: somebody asks all the time, and judges each answer by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from recsys.config.places import PathsConfig
from tests.release.publisher import LENGTH, USERS
from tests.serving.operations.servers import PATIENCE_SECONDS, Server, free_port, running
from tests.serving.test_http import RECSYS

ASKED_AT_ONCE = 50
PAUSE_SECONDS = 0.01
"""Between two batches: who publishes needs the processor too."""


@dataclass
class Asked:
    """What a client saw: every answer must be whole, and of the release that it names."""

    numbers: dict[str, set[str]] = field(default_factory=dict)
    """Release -> of which numbers its items said they were."""
    wrong: list[str] = field(default_factory=list)

    def look(self, server: Server, end: threading.Event) -> None:
        """Ask for some users after the others until ``end``."""
        first = 0
        with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as connection:
            while not end.wait(PAUSE_SECONDS):
                first = (first + 7) % (USERS - ASKED_AT_ONCE)
                self.ask(connection, range(first, first + ASKED_AT_ONCE))

    def ask(self, connection: httpx.Client, users: Sequence[int]) -> None:
        names = [*(f"user-{n}" for n in users), "nobody"]
        body = {"user_ids": names, "n": LENGTH}
        response = connection.post("/v1/recommendations:batch", json=body)
        if response.status_code != httpx.codes.OK:
            self.wrong.append(f"{response.status_code}: {response.text[:200]}")
            return
        answer = response.json()
        lists = [[item["item_id"] for item in one["items"]] for one in answer["users"]]
        if [len(items) for items in lists] != [LENGTH] * len(names):
            self.wrong.append(f"not whole: {response.text[:200]}")
        numbers = {item.split("-")[1] for items in lists for item in items}
        self.numbers.setdefault(answer["release"], set()).update(numbers)

    def until_served(self, release_id: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while release_id not in self.numbers:
            assert time.monotonic() < deadline, f"{release_id} is not served: {list(self.numbers)}"
            time.sleep(0.02)


@contextmanager
def asked(server: Server) -> Iterator[Asked]:
    """Somebody asks, one batch after the other, until the end."""
    seen, end = Asked(), threading.Event()
    asking = threading.Thread(target=seen.look, args=(server, end))
    asking.start()
    try:
        yield seen
    finally:
        end.set()
        asking.join(PATIENCE_SECONDS)


@contextmanager
def service(paths: PathsConfig, *settings: str) -> Iterator[Server]:
    """`recsys serve` on these releases, which notices at once what is live."""
    port = free_port()
    settings = (f"paths.root={paths.root}", f"serving.port={port}", "serving.poll_seconds=0.05",
                *settings)  # fmt: skip
    command = [RECSYS, "serve", *(part for one in settings for part in ("--set", one))]
    with running(command, port, "/readyz") as server:
        yield server


def answered_anew(paths: PathsConfig) -> Asked:
    """What a service answers that is started now, for every user."""
    seen = Asked()
    with (
        service(paths) as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as connection,
    ):
        for first in range(0, USERS, ASKED_AT_ONCE):
            seen.ask(connection, range(first, first + ASKED_AT_ONCE))
    return seen
