"""What a lookup service answers, against the snapshot that it should answer from: over HTTP, as customers ask."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from recsys.config.retention import AuditConfig
from recsys.errors import ConfigError, RecsysError
from recsys.monitoring.snapshot_pairs import pairs
from recsys.monitoring.verdicts import Comparison, compared
from recsys.release.snapshot import Snapshot
from recsys.release.stored_list import key_of, length

USERS_AT_A_TIME = 100
"""For one connection, so that lists do not pile up while services answer."""
TRIES = 4
OK, BUSY = 200, 503


class NoAnswer(RecsysError):
    """A service does not answer."""


@dataclass(frozen=True)
class Asked:
    """What a service has to answer."""

    release_id: str
    blocked: frozenset[str]
    """Items that are off: no answer shows them."""
    longest: int
    """Length of the longest list: the most that may be asked for."""


Expected = tuple[str, list[dict[str, Any]]]
"""User and items."""


def compare_service(
    url: str, folder: Path, config: AuditConfig, *, blocked: frozenset[str], api_key: str, turn: int
) -> Comparison:
    """Every user of the snapshot in ``folder``, or ``service_users`` spread over it; ``turn`` says which.

    Raises:
        NoAnswer: the service is not there, or stopped answering.
        ConfigError: the URL is none.
    """
    with Snapshot(folder) as snapshot:
        users, asked = (
            snapshot.count("users"),
            Asked(snapshot.release_id, blocked, snapshot.longest("users")),
        )
    every = max(1, -(-users // config.service_users))
    connections = [
        Connection(url, api_key, config.timeout_seconds) for _ in range(config.connections)
    ]
    expected = expected_lists(folder, asked, every, turn % every)
    checked, differing = 0, 0
    examples: list[str] = []
    with ThreadPoolExecutor(config.connections) as threads:
        while portions := list(_portions(expected, config.connections)):
            for found in threads.map(
                lambda asking: asking[0].differences(asked, asking[1]),
                zip(connections, portions, strict=False),
            ):
                differing += len(found)
                examples += found
            checked += sum(map(len, portions))
            del examples[100:]
    for connection in connections:
        connection.close()
    reason = f"one user in {every}; nights take turns" if every > 1 else ""
    return compared(
        f"service {url}", "snapshot users", checked=checked, differing=differing, examples=examples,
        reason=reason,
    )  # fmt: skip


def expected_lists(folder: Path, asked: Asked, every: int, first: int) -> Iterator[Expected]:
    """User and items, of every so manieth user. An id that LMDB holds by its hash is not known any more."""
    for place, (key, value) in enumerate(pairs(folder, "users")):
        if place % every != first:
            continue
        try:
            user_id = "" if key == key_of("") else key.decode()
        except UnicodeDecodeError:
            continue
        items = orjson.loads(b"[" + bytes(value[4 + 4 * length(value) :]) + b"]")
        yield user_id, [item for item in items if item["item_id"] not in asked.blocked]


def _portions(expected: Iterator[Expected], connections: int) -> Iterator[list[Expected]]:
    for _ in range(connections):
        if portion := list(islice(expected, USERS_AT_A_TIME)):
            yield portion


class Connection:
    """One kept-alive connection; one thread uses it at a time."""

    def __init__(self, url: str, api_key: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(
                f"audit.services takes URLs such as http://127.0.0.1:8000, got {url!r}"
            )
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._http = kind(parts.hostname, parts.port, timeout=timeout_seconds)
        self._url, self._path = url, parts.path.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}

    def close(self) -> None:
        self._http.close()

    def differences(self, asked: Asked, users: Sequence[Expected]) -> list[str]:
        """What is wrong with the answers for these users, one text for each that has a wrong one."""
        found = ((user_id, self._difference(asked, user_id, items)) for user_id, items in users)
        return [f"users {user_id!r}: {problem}" for user_id, problem in found if problem]

    def _difference(self, asked: Asked, user_id: str, items: list[dict[str, Any]]) -> str:
        path = f"{self._path}/v1/users/{quote(user_id, safe='')}/recommendations?n={max(asked.longest, 1)}"
        status, body = self._get(path)
        if status != OK:
            return f"status {status}"
        try:
            answer = orjson.loads(body)
            release, of_user = answer["release"], answer["user_id"]
            source, offered = answer["source"], answer["items"]
        except (ValueError, KeyError, TypeError):
            return f"no answer of ours: {body[:100]!r}"
        if release != asked.release_id:
            return f"from release {release!r}"
        if of_user != user_id:
            return f"for user {of_user!r}"
        if source != ("personal" if items else "popular"):
            return f"source {source!r}"
        return first_difference(items, offered) if items else ""

    def _get(self, path: str) -> tuple[int, bytes]:
        """Status and body; asked again where the connection was closed, or the service sheds load."""
        problem: object = "it is busy"
        for tried in range(TRIES):
            try:
                self._http.request("GET", path, headers=self._headers)
                answer = self._http.getresponse()
                body = answer.read()
            except (OSError, HTTPException) as error:
                self._http.close()
                problem = repr(error)
                if isinstance(error, ConnectionRefusedError):
                    break
                continue
            if answer.status != BUSY:
                return answer.status, body
            time.sleep(_pause(answer) * (tried + 1))
        raise NoAnswer(f"{self._url} does not answer: {problem}")


def _pause(answer: HTTPResponse) -> float:
    wanted = answer.headers.get("retry-after", "")
    return min(float(wanted), 5.0) if wanted.isdecimal() else 1.0


def first_difference(wanted: list[dict[str, Any]], offered: list[dict[str, Any]]) -> str:
    """'' where they are the same."""
    for rank, (one, other) in enumerate(zip(wanted, offered, strict=False), start=1):
        if one != other:
            return f"rank {rank} is {other}, stored is {one}"
    if len(wanted) != len(offered):
        return f"{len(offered)} items, stored are {len(wanted)}"
    return ""
