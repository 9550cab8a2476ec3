"""The access log says what was asked and names no customer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from recsys.config.serving import ServingConfig
from recsys.serving.access_log import USER_ID, AccessLog
from recsys.serving.guard import guarded
from recsys.serving.metrics import Metrics
from tests.serving.operations.calls import body_in, called, scope_of


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/v1/recommendations":
        scope[USER_ID] = "ana"
    headers = [(b"x-request-id", b"r-1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"12345"})


def line_of(scope: Scope, key: str = "k", app: ASGIApp = answering, **how: Any) -> dict[str, Any]:
    settings = ServingConfig.model_validate({"access_log": True, "access_log_key": key})
    with capture_logs() as logs:
        called(guarded(app, settings, Metrics()), scope, **how)
    [line] = logs
    return dict(line)


def test_a_line_has_the_request_id_the_route_and_a_hash_of_the_user() -> None:
    line = line_of(scope_of("GET", "/v1/users/ana/recommendations"))
    assert line.pop("milliseconds") >= 0
    assert line == {
        "event": "request",
        "log_level": "info",
        "request_id": "r-1",
        "method": "GET",
        "route": "recommendations",
        "user": AccessLog(answering, b"k").hash_of("ana"),
        "status": 200,
        "bytes": 5,
    }


@pytest.mark.parametrize(
    ("path", "route", "named"),
    [
        ("/v1/users/secret/recommendations", "recommendations", True),
        ("/v1/users/a/b secret/recommendations", "recommendations", True),
        ("/v1/users/\ud800secret/recommendations", "recommendations", True),
        ("/page/customers/secret", "page_customer", True),
        ("/v1/users/secret", "other", False),  # no route of ours: may hold anything
        ("/secret", "other", False),
        ("/v1/items/secret/similar", "similar", False),
        ("/v1/items/secret/also-bought", "also_bought", False),
        ("/v1/popular", "popular", False),
        ("/v1/recommendations:batch", "batch", False),
        ("/", "page", False),
    ],
)
def test_no_path_shows_an_id(path: str, route: str, named: bool) -> None:
    line = line_of(scope_of("GET", f"{path}?exclude=secret"))
    assert (line["route"], line["user"] is not None) == (route, named)
    assert "secret" not in json.dumps(line)


def test_a_user_of_a_body_is_hashed_like_one_of_a_path() -> None:
    in_path = line_of(scope_of("GET", "/v1/users/ana/recommendations"))
    in_body = line_of(scope_of("POST", "/v1/recommendations"))
    assert in_body["user"] == in_path["user"]
    assert in_body["route"] == "session"


def test_hashes_are_keyed() -> None:
    first, second = AccessLog(answering, b"first"), AccessLog(answering, b"second")
    assert first.hash_of("ana") == AccessLog(answering, b"first").hash_of("ana")
    assert len({first.hash_of("ana"), first.hash_of("bob"), second.hash_of("ana")}) == 3
    drawn = {AccessLog(answering, b"").hash_of("ana") for _ in range(3)}
    assert len(drawn) == 3, "without a key each process draws its own"


def test_what_the_guard_refuses_has_a_line_too() -> None:
    async def unreached(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    line = line_of(scope_of("POST", "/v1/recommendations", content_length="9999999"), app=unreached)
    assert (line["status"], line["route"]) == (413, "session")
    assert line["request_id"]


def test_a_client_that_left_has_a_line_without_a_status() -> None:
    async def left(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.disconnect"

    with capture_logs() as logs:
        called(AccessLog(left, b"k"), scope_of("POST", "/v1/recommendations"), chunks=body_in())
    assert [(line["status"], line["bytes"]) for line in logs] == [(None, 0)]


def test_without_the_setting_there_is_no_line() -> None:
    with capture_logs() as logs:
        called(guarded(answering, ServingConfig(), Metrics()), scope_of("GET", "/v1/popular"))
    assert logs == []
