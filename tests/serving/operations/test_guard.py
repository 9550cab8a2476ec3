"""The guard around a tiny application: who is let in, how many at a time, and how much they may send."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from recsys.config.serving import ServingConfig
from recsys.serving import guard
from recsys.serving.guard import guarded
from recsys.serving.metrics import Metrics
from tests.serving.operations.calls import Heard, body_in, call, called, scope_of
from tests.serving.operations.tiny import tiny

KEY = "0123456789abcdef"


class Guarded:
    """``tiny`` behind a guard, and what it counts."""

    def __init__(self, **settings: object) -> None:
        self.metrics = Metrics()
        self.app = guarded(tiny(self.metrics), ServingConfig.model_validate(settings), self.metrics)

    def refusals(self) -> dict[str, float]:
        """Those that are not 0, by reason."""
        families = text_string_to_metric_families(self.metrics.text().decode())
        [refusals] = [family for family in families if family.name == "recsys_refusals"]
        return {s.labels["reason"]: s.value for s in refusals.samples if s.value}


@pytest.fixture(autouse=True)
def refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "REFUSED_AFTER_SECONDS", 0.001)


async def at_once(app: Guarded, requests: int, scope: Scope) -> list[Heard]:
    return await asyncio.gather(*(call(app.app, dict(scope)) for _ in range(requests)))


@pytest.mark.parametrize(
    "path", ["/", "/wait?seconds=0.01"], ids=["answered in one go", "that wait for something"]
)
def test_requests_that_come_at_once_are_answered_up_to_the_limit(path: str) -> None:
    app = Guarded(max_in_flight=3)

    heard = asyncio.run(at_once(app, 10, scope_of("GET", path)))

    assert Counter(answer.status for answer in heard) == {200: 3, 503: 7}
    assert app.refusals() == {"overload": 7}


def test_what_is_refused_says_when_to_come_back() -> None:
    app = Guarded(max_in_flight=1)
    _, refused = asyncio.run(at_once(app, 2, scope_of("GET", "/", x_request_id="r-1")))
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.headers["x-request-id"] == "r-1"
    assert refused.json() == {
        "request_id": "r-1",
        "error": "too many requests at a time; try again after 1 s",
    }


def test_after_the_rush_everybody_is_answered_again() -> None:
    app = Guarded(max_in_flight=3)

    async def rush() -> list[Heard]:
        await at_once(app, 10, scope_of("GET", "/"))
        return await at_once(app, 3, scope_of("GET", "/"))

    assert [answer.status for answer in asyncio.run(rush())] == [200, 200, 200]
    assert "recsys_in_flight 0.0" in app.metrics.text().decode()


def test_a_request_that_still_waits_keeps_its_place() -> None:
    """Turns of the event loop pass; what began in an earlier one counts on."""
    app = Guarded(max_in_flight=2)

    async def one_after_another() -> list[int | None]:
        slow = asyncio.create_task(call(app.app, scope_of("GET", "/wait?seconds=0.2")))
        for _ in range(5):
            await asyncio.sleep(0)
        heard = await at_once(app, 2, scope_of("GET", "/"))
        return [answer.status for answer in (await slow, *heard)]

    assert asyncio.run(one_after_another()) == [200, 200, 503]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_and_metrics_are_answered_under_overload(path: str) -> None:
    app = Guarded(max_in_flight=1)

    async def rush() -> list[Heard]:
        scopes = [*(scope_of("GET", "/") for _ in range(5)), scope_of("GET", path)]
        return await asyncio.gather(*(call(app.app, scope) for scope in scopes))

    *rushed, probe = asyncio.run(rush())
    assert Counter(answer.status for answer in rushed) == {200: 1, 503: 4}
    assert probe.status == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 401),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"bearer {KEY}"}, 200),  # the scheme's case is free
        ({"authorization": f"Bearer {KEY}0"}, 401),
        ({"authorization": f"Bearer {KEY[:-1]}"}, 401),
        ({"authorization": KEY}, 401),
        ({"authorization": f"Basic {KEY}"}, 401),
        ({"authorization": f"Tokens {KEY}"}, 401),  # as long as Bearer
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Bearer \xe9"}, 401),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_key_is_asked_for(sent: dict[str, str], status: int, method: str) -> None:
    app = Guarded(api_key=KEY)
    heard = called(app.app, scope_of(method, "/v1/popular", **sent))
    assert heard.status == status
    if status == 401:
        assert heard.headers["www-authenticate"] == "Bearer"
        assert KEY not in heard.body.decode()
        assert app.refusals() == {"key": 1}


@pytest.mark.parametrize(
    ("path", "page", "status"),
    [
        ("/healthz", False, 200),
        ("/readyz", False, 200),
        ("/metrics", True, 401),
        ("/", False, 401),
        ("/", True, 200),  # holds no data, and asks for the key
        ("/page/customers/ana", True, 401),
        ("//healthz", True, 401),
        ("/healthz/", True, 401),
    ],
)
def test_only_probes_and_the_empty_page_are_open(path: str, page: bool, status: int) -> None:
    assert called(Guarded(api_key=KEY, page=page).app, scope_of("GET", path)).status == status


def test_a_key_that_is_easy_to_find_is_refused_in_conf() -> None:
    for key in ("short", "with a space in it!", "é" * 20):
        with pytest.raises(ValidationError, match="16 or more ASCII characters"):
            ServingConfig.model_validate({"api_key": key})
    shown = ServingConfig.model_validate({"api_key": KEY}).model_dump_json()
    assert KEY not in shown


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in chunks"])
def test_a_body_above_the_limit_is_refused(declared: bool) -> None:
    app = Guarded(max_body_bytes=1024)
    read: list[bytes] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            read.append(b"x" * 100)
            yield read[-1]

    sent = {"content_length": "1025"} if declared else {}
    heard = called(app.app, scope_of("POST", "/echo", **sent), chunks=endless())
    assert (heard.status, heard.headers["connection"]) == (413, "close")
    assert heard.json()["error"] == "the body is larger than 1024 bytes (serving.max_body_bytes)"
    assert len(read) == (0 if declared else 11)
    assert app.refusals() == {"body_size": 1}


def test_a_body_at_the_limit_reaches_the_route_whole() -> None:
    app = Guarded(max_body_bytes=1024)
    body = body_in(b"a" * 512, b"b" * 512)
    heard = called(app.app, scope_of("POST", "/echo"), chunks=body, whole=True)
    assert heard.body == b"a" * 512 + b"b" * 512


def test_the_largest_batch_of_long_ids_is_no_larger_than_the_limit() -> None:
    settings = ServingConfig()
    ids = [f"{n:0128}" for n in range(settings.batch_limit)]
    body = json.dumps({"user_ids": ids}).encode()
    heard = called(Guarded().app, scope_of("POST", "/echo"), chunks=body_in(body), whole=True)
    assert (heard.status, heard.body) == (200, body)


def test_a_body_that_breaks_off_reaches_no_route() -> None:
    app = Guarded()
    heard = called(app.app, scope_of("POST", "/boom"), chunks=body_in(b"half"))
    assert (heard.status, heard.headers["connection"]) == (400, "close")
    assert app.refusals() == {"no_body": 1}


def test_a_body_that_does_not_come_is_not_waited_for_and_takes_nobody_s_place() -> None:
    app = Guarded(max_in_flight=1, request_timeout_seconds=0.2)

    async def never() -> AsyncIterator[bytes]:
        yield b"half"
        await asyncio.Event().wait()

    async def both() -> tuple[list[Heard], Heard]:
        slow = [
            asyncio.create_task(call(app.app, scope_of("POST", "/echo"), never())) for _ in range(5)
        ]
        await asyncio.sleep(0)
        quick = await call(app.app, scope_of("GET", "/"))
        return list(await asyncio.gather(*slow)), quick

    slow, quick = asyncio.run(both())
    assert quick.status == 200
    assert {answer.status for answer in slow} == {408}
    assert slow[0].json()["error"] == "the body took over 0.2 s"
    assert app.refusals() == {"slow_sender": 5}


def test_a_body_of_its_declared_length_is_whole_without_another_word() -> None:
    app = Guarded(request_timeout_seconds=0.2)

    async def nothing_more() -> AsyncIterator[bytes]:
        yield b"ha"
        yield b"lf"
        await asyncio.Event().wait()

    heard = called(app.app, scope_of("POST", "/echo", content_length="4"), chunks=nothing_more())
    assert (heard.status, heard.body, app.refusals()) == (200, b"half", {})


@pytest.mark.parametrize(("more", "wanted"), [(0, 1), (1, 3)])
def test_an_answer_goes_whole_up_to_what_a_connection_may_hold(more: int, wanted: int) -> None:
    size = guard.WHOLE_BYTES + more
    pieces = 0

    async def take() -> None:
        nonlocal pieces
        pieces += 1

    heard = called(Guarded().app, scope_of("POST", f"/big?bytes={size}"), take=take)
    assert (len(heard.body), pieces) == (size, wanted)


def test_a_large_answer_goes_in_pieces_to_a_client_that_takes_them() -> None:
    app = Guarded()
    size = 3 * guard.PIECE_BYTES + 1
    scope = scope_of("POST", f"/big?bytes={size}")
    pieces = 0

    async def take() -> None:
        nonlocal pieces
        pieces += 1

    heard = called(app.app, scope, take=take)
    assert (heard.status, len(heard.body), pieces) == (200, size, 4)


def test_an_answer_that_is_not_taken_is_dropped_and_takes_nobody_s_place() -> None:
    app = Guarded(max_in_flight=1, request_timeout_seconds=0.2)
    scope = scope_of("POST", f"/big?bytes={3 * guard.PIECE_BYTES}")

    async def never() -> None:
        await asyncio.Event().wait()

    async def both() -> tuple[Heard, Heard]:
        slow = asyncio.create_task(call(app.app, scope, take=never))
        for _ in range(5):
            await asyncio.sleep(0)
        return await call(app.app, scope_of("GET", "/")), await slow

    quick, slow = asyncio.run(both())
    assert (quick.status, slow.body) == (200, b"")
    assert app.refusals() == {"slow_reader": 1}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_fault_of_ours_is_in_the_log_and_not_in_the_answer(method: str) -> None:
    with capture_logs() as logs:
        heard = called(Guarded().app, scope_of(method, "/boom", x_request_id="r-1"))
    assert (heard.status, heard.headers["x-request-id"]) == (500, "r-1")
    assert heard.json()["error"] == "internal error; the log has it under this request id"
    [line] = logs
    assert (line["event"], line["request_id"]) == ("request_failed", "r-1")
    assert isinstance(line["exc_info"], ZeroDivisionError)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_fault_that_a_route_has_answered_is_not_answered_twice(method: str) -> None:
    async def answers_and_raises(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"sorry"})
        raise ZeroDivisionError

    app = guarded(answers_and_raises, ServingConfig(), Metrics())
    with capture_logs() as logs:
        heard = called(app, scope_of(method, "/"))
    assert (heard.status, heard.body, logs) == (500, b"sorry", [])


def test_an_answer_that_a_fault_broke_off_is_not_sent_half() -> None:
    """Where it is held back until it is whole: of a request with a body."""

    async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError

    with capture_logs() as logs:
        heard = called(guarded(breaks_off, ServingConfig(), Metrics()), scope_of("POST", "/"))
    assert (heard.status, len(logs)) == (500, 1)
    assert b"half" not in heard.body
