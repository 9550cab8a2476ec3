"""The service as it is started by people: `recsys serve`, granian, a snapshot on disk, requests over loopback."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from recsys.blocked import blocked_path
from recsys.config.places import PathsConfig
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import pointer_path, release_folder
from recsys.release.snapshot import DATA_FILE
from tests.release.making import make_live, make_release, places

RECSYS = str(Path(sys.executable).parent / "recsys")
PATIENCE_SECONDS = 60
SWAPS = 12


@dataclass(frozen=True)
class Service:
    """A running service, and the two releases on its disk."""

    address: str
    paths: PathsConfig
    process: subprocess.Popen[str]
    first: ReleaseManifest
    second: ReleaseManifest

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.address + path, timeout=PATIENCE_SECONDS)

    def release(self) -> str:
        return str(self.get("/healthz").json()["release"])

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for what the service does by itself."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            assert time.monotonic() < deadline, self.get("/readyz").text
            time.sleep(0.02)

    def make_live(self, release: ReleaseManifest) -> None:
        make_live(self.paths, release.release_id)
        self.until(lambda: self.release() == release.release_id)


def release_of(paths: PathsConfig, letter: str, day: int) -> ReleaseManifest:
    """A release whose every item begins with ``letter``: a mixed answer cannot hide."""

    def listed(source: str) -> list[str]:
        return [f"{letter}-{source}-{n}" for n in range(20)]

    return make_release(
        paths,
        date(2024, 6, day),
        users={user: places(*listed(user)) for user in ("ana", "bob")},
        items={"tea": places(*listed("tea"), source="similar")},
        segments={"": places(*listed("popular"), source="popular")},
        live=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(paths: PathsConfig, port: int) -> subprocess.Popen[str]:
    settings = (
        f"paths.root={paths.root}",
        f"serving.port={port}",
        "serving.poll_seconds=0.02",
        "serving.blocked_poll_seconds=0.02",
    )
    options = [part for setting in settings for part in ("--set", setting)]
    return subprocess.Popen(
        [RECSYS, "serve", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    paths = PathsConfig(root=str(tmp_path_factory.mktemp("service")))
    first, second = release_of(paths, "a", 1), release_of(paths, "b", 2)
    make_live(paths, first.release_id)
    port = free_port()
    process = start(paths, port)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert f"serving release {first.release_id} on http://127.0.0.1:{port}" in said
    service = Service(f"http://127.0.0.1:{port}", paths, process, first, second)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            service.release()
            break
        except httpx.TransportError:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield service
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, "Traceback" in said) == (0, False), said


@pytest.fixture
def service(running: Service) -> Service:
    """The service with its first release live, whatever the test before did."""
    running.make_live(running.first)
    running.until(lambda: not running.get("/readyz").json()["degraded"])
    return running


def test_a_known_user_an_unknown_user_and_a_bad_n(service: Service) -> None:
    known = service.get("/v1/users/ana/recommendations?n=2").json()
    assert (known["source"], [i["item_id"] for i in known["items"]]) == (
        "personal", ["a-ana-0", "a-ana-1"],
    )  # fmt: skip
    unknown = service.get("/v1/users/zed%2F1/recommendations?n=1").json()
    assert (unknown["source"], unknown["items"][0]["item_id"]) == ("popular", "a-popular-0")
    bad = service.get("/v1/users/ana/recommendations?n=21")
    assert (bad.status_code, bad.json()["error"]) == (
        422, "n must be a whole number from 1 to 20, got '21'",
    )  # fmt: skip
    similar = service.get("/v1/items/tea/similar?n=1").json()
    assert similar["items"] == [{"item_id": "a-tea-0", "score": 20.0, "source": "similar"}]
    assert service.get("/v1/items/unknown/similar").status_code == 404
    assert service.get("/v1/popular?n=3").json()["source"] == "popular"
    head = httpx.head(service.address + "/v1/popular?n=3")
    assert (head.status_code, head.content) == (200, b"")


async def ask_while(service: Service, change: Callable[[], None]) -> list[tuple[str, str]]:
    """Ask from eight clients until ``change`` is done; (release, first letters of its items) in turn."""
    answers: list[tuple[str, str]] = []
    done = asyncio.Event()
    asked = ("/v1/users/ana/recommendations?n=20", "/v1/users/zed/recommendations?n=20",
             "/v1/items/tea/similar?n=20", "/v1/popular?n=20")  # fmt: skip

    async def ask(client: httpx.AsyncClient) -> None:
        while not done.is_set():
            for path in asked:
                response = await client.get(service.address + path)
                assert response.status_code == 200, response.text
                body = response.json()
                letters = "".join(sorted({item["item_id"][0] for item in body["items"]}))
                answers.append((body["release"], letters))

    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(ask(client))
        await asyncio.to_thread(change)
        done.set()
    return answers


def test_releases_swapped_under_requests_fail_none_and_mix_none(service: Service) -> None:
    def swap() -> None:
        for n in range(SWAPS):
            service.make_live(service.first if n % 2 else service.second)

    answers = asyncio.run(ask_while(service, swap))

    right = {(service.first.release_id, "a"), (service.second.release_id, "b")}
    assert set(answers) == right
    turns = sum(before[0] != after[0] for before, after in pairwise(answers))
    assert turns >= SWAPS // 2, f"{turns} turns in {len(answers)} answers"
    lines = service.get("/metrics").text.splitlines()
    swaps = float(
        next(line for line in lines if line.startswith("recsys_release_swaps_total")).split()[1]
    )
    assert swaps >= SWAPS


def test_a_roll_back_is_served_without_a_restart(service: Service) -> None:
    service.make_live(service.second)
    command = [RECSYS, "release", "roll-back", "--set", f"paths.root={service.paths.root}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{service.first.release_id} is live and pinned")
    service.until(lambda: service.release() == service.first.release_id)
    assert service.get("/v1/popular?n=1").json()["items"][0]["item_id"] == "a-popular-0"


def test_an_item_is_taken_off_and_put_back_without_a_restart(service: Service) -> None:
    def command(*words: str) -> None:
        where = ["--set", f"paths.root={service.paths.root}"]
        subprocess.run([RECSYS, *words, *where], capture_output=True, text=True, check=True)

    def best() -> str:
        items = service.get("/v1/users/ana/recommendations?n=1").json()["items"]
        return str(items[0]["item_id"])

    assert best() == "a-ana-0"
    command("block-item", "a-ana-0", "--reason", "recalled")
    service.until(lambda: best() == "a-ana-1")
    assert "recsys_blocked_items 1.0" in service.get("/metrics").text
    service.make_live(service.second)
    service.make_live(service.first)
    assert best() == "a-ana-1", "a release that still has the item does not bring it back"
    blocked_path(service.paths).write_text("{")
    service.until(lambda: bool(service.get("/readyz").json()["degraded"]))
    assert best() == "a-ana-1", "an unreadable file does not bring it back"
    blocked_path(service.paths).unlink()
    service.until(lambda: "No such file" in str(service.get("/readyz").json()["problem"]))
    assert best() == "a-ana-1", "nor does removing it"
    command("unblock-item", "a-ana-0")
    service.until(lambda: best() == "a-ana-0")
    service.until(lambda: not service.get("/readyz").json()["degraded"])


def damage_the_snapshot(service: Service) -> str:
    bad = release_of(service.paths, "c", 3)
    data = release_folder(service.paths, bad.release_id) / DATA_FILE
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    make_live(service.paths, bad.release_id)
    return f"checksum of {data} is off"


def damage_the_pointer(service: Service) -> str:
    pointer_path(service.paths).write_text("{")
    return "is unreadable"


def lose_the_folder(service: Service) -> str:
    gone = release_of(service.paths, "d", 4)
    shutil.rmtree(release_folder(service.paths, gone.release_id))
    make_live(service.paths, gone.release_id)
    return f"release {gone.release_id} has no"


@pytest.mark.parametrize("damage", [damage_the_snapshot, damage_the_pointer, lose_the_folder])
def test_what_is_damaged_is_refused_and_the_old_release_goes_on_serving(
    service: Service, damage: Callable[[Service], str]
) -> None:
    problem = damage(service)
    service.until(lambda: bool(service.get("/readyz").json()["degraded"]))
    ready = service.get("/readyz").json()
    assert (ready["ready"], ready["release"]) == (True, service.first.release_id)
    assert problem in ready["problem"]
    assert "recsys_degraded 1.0" in service.get("/metrics").text
    assert service.get("/v1/popular?n=1").json()["items"][0]["item_id"] == "a-popular-0"
    pointer_path(service.paths).unlink()  # as an operator would who starts afresh
    service.make_live(service.first)
    service.until(lambda: not service.get("/readyz").json()["degraded"])


def test_no_release_and_a_taken_port_are_said_at_start(service: Service, tmp_path: Path) -> None:
    empty = start(PathsConfig(root=str(tmp_path)), free_port())
    _, said = empty.communicate(timeout=PATIENCE_SECONDS)
    assert (empty.returncode, "no release is live" in said, "make demo" in said) == (1, True, True)

    port = int(service.address.rpartition(":")[2])
    second = start(service.paths, port)
    _, said = second.communicate(timeout=PATIENCE_SECONDS)
    assert (second.returncode, f"cannot listen on 127.0.0.1:{port}" in said) == (75, True)
    assert service.release() == service.first.release_id


def test_a_service_without_a_whole_release_does_not_start(tmp_path: Path) -> None:
    paths = PathsConfig(root=str(tmp_path))
    data = release_folder(paths, make_release(paths).release_id) / DATA_FILE
    data.write_bytes(b"")
    process = start(paths, free_port())
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, "is off" in said) == (3, True)
