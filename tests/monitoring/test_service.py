"""A lookup service under audit: every user is asked for, and one changed byte in one answer is found and named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from recsys.config import RecsysConfig
from recsys.config.retention import AuditConfig
from recsys.errors import ConfigError
from recsys.monitoring.failures import or_unreadable
from recsys.monitoring.service import NoAnswer, compare_service
from recsys.monitoring.verdicts import Comparison
from recsys.release.pointer import release_folder
from tests.release.making import USERS, ListsById, make_release, places
from tests.serving.operations.servers import Server, free_port, running

KEY = "a-key-that-is-long-enough"
MANY: ListsById = {
    **{f"user-{n:03}": places(f"item-{n}", "tea", "cup") for n in range(250)},
    **USERS,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """`recsys serve` over a release, and the release's folder."""
    root = tmp_path_factory.mktemp("served")
    paths = RecsysConfig.model_validate({"paths": {"root": str(root)}}).paths
    release_id = make_release(paths, users=MANY).release_id
    port = free_port()
    recsys = str(Path(sys.executable).parent / "recsys")
    command = [recsys, "serve", "--set", f"paths.root={root}", "--set", f"serving.port={port}",
               "--set", f"serving.api_key={KEY}"]  # fmt: skip
    with running(command, port, "/readyz") as server:
        yield server, release_folder(paths, release_id)


def audited(url: str, folder: Path, *, key: str = KEY, turn: int = 0, **more: int) -> Comparison:
    config = AuditConfig(connections=3, timeout_seconds=20, **more)
    return compare_service(url, folder, config, blocked=frozenset(), api_key=key, turn=turn)


@contextmanager
def tampering(server: Server, user: str) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that changes one byte of the answers for one user; what it sent for them."""
    sent: list[bytes] = []

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_GET(self) -> None:
            upstream = HTTPConnection("127.0.0.1", server.port, timeout=20)
            key = {"authorization": self.headers["authorization"]}
            upstream.request("GET", self.path, headers=key)
            answer = upstream.getresponse()
            body = bytearray(answer.read())
            upstream.close()
            if f"/{user}/" in self.path:
                place = body.index(b'"score":') + len('"score":')
                body[place] ^= 0x01  # another digit
                sent.append(bytes(body))
            self.send_response(answer.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    thread = Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}", sent
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


def test_a_service_that_answers_from_the_release_passes(served: tuple[Server, Path]) -> None:
    server, folder = served
    found = audited(server.address, folder)
    assert str(found) == f"service {server.address} | snapshot users: ok, 0 of {len(MANY)} differ"


def test_one_byte_of_one_answer_is_found_and_the_user_is_named(served: tuple[Server, Path]) -> None:
    server, folder = served
    with tampering(server, "user-123") as (url, sent):
        found = audited(url, folder)
        said = httpx.get(f"{server.address}/v1/users/user-123/recommendations?n=3",
                         headers={"authorization": f"Bearer {KEY}"}).content  # fmt: skip

    [wrong] = sent
    differs = [n for n, (a, b) in enumerate(zip(wrong, said, strict=True)) if a != b]
    assert wrong[differs[-1] :] != said[differs[-1] :], "the fault landed"
    assert (found.verdict, found.checked, found.differing) == ("differs", len(MANY), 1)
    assert found.examples[0].startswith("users 'user-123': rank 1 is {'item_id': 'item-123'")


def test_where_there_are_more_users_than_are_asked_for_nights_take_turns(
    served: tuple[Server, Path],
) -> None:
    server, folder = served
    found = [audited(server.address, folder, turn=turn, service_users=100) for turn in (0, 1, 2)]
    assert sum(one.checked for one in found) == len(MANY)
    assert {(one.verdict, one.reason) for one in found} == {
        ("ok", "one user in 3; nights take turns")
    }


def test_a_service_of_another_release_differs_for_everybody(
    served: tuple[Server, Path], config: RecsysConfig
) -> None:
    server, _ = served
    other = make_release(config.paths, users={"ana": places("pot")}).release_id
    found = audited(server.address, release_folder(config.paths, other))
    assert (found.differing, found.checked) == (1, 1)
    assert "from release '2024-06-01-" in found.examples[0]


def test_a_wrong_key_differs_and_a_service_that_is_not_there_cannot_be_read(
    served: tuple[Server, Path],
) -> None:
    server, folder = served
    refused = audited(server.address, folder, key="another-key-of-16-or-more")
    assert (refused.differing, refused.examples[0].endswith("status 401")) == (len(MANY), True)
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(NoAnswer, match=f"{nobody} does not answer: ConnectionRefusedError"):
        audited(nobody, folder)
    found = or_unreadable("service", "snapshot", lambda: audited(nobody, folder))
    assert found.verdict == "unreadable"
    with pytest.raises(ConfigError, match="takes URLs such as"):
        audited("localhost:8000", folder)
