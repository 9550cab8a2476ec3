"""The outermost layer of the service: who may ask, how many at a time, how much, and how slowly.

Work above ``max_in_flight`` is refused, not queued, so that what is accepted stays fast (load shedding, as in
Google's SRE book, chapter "Handling Overload").
"""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress
from dataclasses import dataclass

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.config.serving import ServingConfig
from recsys.serving.access_log import AccessLog
from recsys.serving.metrics import Metrics
from recsys.serving.request import RequestIds

log = structlog.get_logger()

REFUSED_AFTER_SECONDS = 0.25
"""An overloaded service lets those it refuses wait this long for their 503: clients that ask again at once would
else take more of the processor with their refusals than others with their answers. It holds a connection and a
timer meanwhile, of which the server has at most 1,024."""
RETRY_AFTER_SECONDS = 1
WHOLE_BYTES = 131072
"""Answers of up to so many bytes are handed over whole: a connection may hold as much, and pieces cost a turn of the
server's threads each. A batch of 100 users with 20 items is one."""
PIECE_BYTES = 65536
"""Of a larger answer. The next piece is handed over when the client has taken enough of those before it."""
WITHOUT_BODY = frozenset({"GET", "HEAD"})
PROBES = frozenset({"/healthz", "/readyz"})
ALWAYS_ADMITTED = PROBES | {"/metrics"}
"""An orchestrator that hears 503 from an overloaded service would end it."""
PAGE_FILES = frozenset({"/"})
"""Of the page: it holds no data, and asks for the key itself."""
BEARER = b"bearer "


def guarded(app: ASGIApp, settings: ServingConfig, metrics: Metrics) -> ASGIApp:
    """``app`` behind the guard and, where conf asks for it, the access log."""
    guard = Guard(app, settings, metrics)
    if not settings.access_log:
        return guard
    return AccessLog(guard, settings.access_log_key.get_secret_value().encode())


REASONS = ("overload", "key", "body_size", "no_body", "slow_sender", "slow_reader")
"""Labels of the metric: the process is busy; no or a wrong key; the body is too large, breaks off, or comes too
slowly; the answer is not taken."""


@dataclass(frozen=True)
class Refusal:
    """Why a request gets no answer; the message is for the client."""

    reason: str
    status: int
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


OVERLOAD = Refusal(
    "overload",
    503,
    f"too many requests at a time; try again after {RETRY_AFTER_SECONDS} s",
    ((b"retry-after", b"%d" % RETRY_AFTER_SECONDS),),
)
NO_KEY = Refusal(
    "key",
    401,
    "this service wants its API key: Authorization: Bearer KEY",
    ((b"www-authenticate", b"Bearer"),),
)
CLOSE = ((b"connection", b"close"),)
"""Where the rest of a body is not read, the connection is of no more use."""
NO_BODY = Refusal("no_body", 400, "the request ended before its body did", CLOSE)
"""The client went away, or sends what is no HTTP; a server does not tell which."""


class Guard:
    """Wraps an ASGI application. One event loop, so plain numbers count."""

    def __init__(self, app: ASGIApp, settings: ServingConfig, metrics: Metrics) -> None:
        key = settings.api_key.get_secret_value()
        self._app = app
        self._key = key.encode()
        self._open_paths = PROBES | PAGE_FILES if settings.page else PROBES
        self._limit = settings.max_in_flight
        self._max_body_bytes = settings.max_body_bytes
        self._too_large = Refusal(
            "body_size",
            413,
            f"the body is larger than {settings.max_body_bytes} bytes (serving.max_body_bytes)",
            CLOSE,
        )
        self._timeout_seconds = settings.request_timeout_seconds
        self._refusals = metrics.refusals
        self._ids = RequestIds()
        self._in_flight = 0
        self._busy = 0
        self._turn_is_open = False
        metrics.in_flight.set_function(lambda: self._in_flight)
        for reason in REASONS:
            metrics.refusals.labels(reason)  # 0 from the start: a rate needs a beginning

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._key and not self._may_ask(scope):
            await self._refuse(NO_KEY, scope, send)
        elif scope["method"] not in WITHOUT_BODY:
            await self._work_on_body(scope, receive, send)
        elif self._admits(scope):
            await self._work(scope, receive, send)
        else:
            await self._shed(scope, send)

    def _may_ask(self, scope: Scope) -> bool:
        """Compared in constant time, so that a key cannot be found letter by letter."""
        if scope["path"] in self._open_paths:
            return True
        for name, value in scope["headers"]:
            if name == b"authorization" and value[: len(BEARER)].lower() == BEARER:
                return hmac.compare_digest(value[len(BEARER) :].strip(), self._key)
        return False

    def _admits(self, scope: Scope) -> bool:
        """Is there room for one more?

        Most requests are answered in one go, so counting those that wait for something would never find
        any. What has piled up shows in how many the event loop starts in one turn: all of them were there
        before the first was answered.
        """
        if not self._turn_is_open:
            self._turn_is_open = True
            self._busy = self._in_flight
            asyncio.get_running_loop().call_soon(self._end_turn)
        return self._busy < self._limit or scope["path"] in ALWAYS_ADMITTED

    def _end_turn(self) -> None:
        self._turn_is_open = False

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._busy += 1
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            await self._own_up(error, scope, send)
        finally:
            self._in_flight -= 1

    async def _own_up(self, error: Exception, scope: Scope, send: Send) -> None:
        """A fault of ours that no route caught. One that was answered was logged where that was done: a framework
        answers, and raises all the same."""
        request_id = self._ids.of(scope["headers"])
        message = "internal error; the log has it under this request id"
        with suppress(Exception):
            await send_error(send, 500, message, request_id)
            log.error("request_failed", request_id=request_id.decode(), exc_info=error)

    async def _work_on_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request takes room only once its body is here, and gives it back before its answer is sent:
        slow clients hold their own connection and nobody's place."""
        body = await self._body_of(scope, receive)
        if isinstance(body, Refusal):
            await self._refuse(body, scope, send)
        elif self._admits(scope):
            answer = Answer()
            await self._work(scope, Body(body, receive), answer)
            await self._give(answer, send)
        else:
            await self._shed(scope, send)

    async def _body_of(self, scope: Scope, receive: Receive) -> bytes | Refusal:
        """The whole body, or why it is not wanted."""
        declared = declared_bytes(scope)
        if declared > self._max_body_bytes:
            return self._too_large
        pieces: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self._timeout_seconds):
                # All that was declared is all there is: to wait for the server to say so would cost a turn of its
                # threads.
                while more and not 0 < declared <= size:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return NO_BODY
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > self._max_body_bytes:
                        return self._too_large
                    more = message.get("more_body", False)
        except TimeoutError:
            return Refusal(
                "slow_sender", 408, f"the body took over {self._timeout_seconds:g} s", CLOSE
            )
        return b"".join(pieces)

    async def _give(self, answer: Answer, send: Send) -> None:
        """A client that does not take what it asked for loses its connection; it keeps no memory of ours."""
        if answer.start is None:
            return
        await send(answer.start)
        if len(answer.body) <= WHOLE_BYTES:
            await send({"type": "http.response.body", "body": answer.body})
            return
        body = memoryview(answer.body)
        for begin in range(0, len(body), PIECE_BYTES):
            piece = bytes(body[begin : begin + PIECE_BYTES])
            more = begin + PIECE_BYTES < len(body)
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await send({"type": "http.response.body", "body": piece, "more_body": more})
            except TimeoutError:
                self._refusals.labels("slow_reader").inc()
                return

    async def _shed(self, scope: Scope, send: Send) -> None:
        await asyncio.sleep(REFUSED_AFTER_SECONDS)
        await self._refuse(OVERLOAD, scope, send)

    async def _refuse(self, refusal: Refusal, scope: Scope, send: Send) -> None:
        self._refusals.labels(refusal.reason).inc()
        request_id = self._ids.of(scope["headers"])
        await send_error(send, refusal.status, refusal.message, request_id, refusal.headers)


@dataclass
class Body:
    """``receive`` for an application whose request's body is here already."""

    body: bytes | None
    rest: Receive

    async def __call__(self) -> Message:
        if self.body is None:
            return await self.rest()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}


@dataclass
class Answer:
    """``send`` that keeps the answer for later. One that broke off before its end may begin again."""

    start: Message | None = None
    body: bytes = b""
    whole: bool = False

    async def __call__(self, message: Message) -> None:
        if self.whole:
            raise RuntimeError("the answer has been given")
        if message["type"] == "http.response.start":
            self.start, self.body = message, b""
        else:
            self.body += message.get("body", b"")
            self.whole = not message.get("more_body", False)


def declared_bytes(scope: Scope) -> int:
    """What Content-Length says; 0 where it is not a number, as the server lets none such pass."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


async def send_error(
    send: Send,
    status: int,
    message: str,
    request_id: bytes,
    more_headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    body = orjson.dumps({"request_id": request_id.decode(), "error": message})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id),
        *more_headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
