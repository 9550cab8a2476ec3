"""Calls of an ASGI application by hand: what a client sends, when, and whether it takes the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Scope


@dataclass
class Heard:
    """What a client heard."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(method: str, target: str, **headers: str) -> Scope:
    path, _, query = target.partition("?")
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": sent,
    }


async def body_in(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def call(
    app: ASGIApp,
    scope: Scope,
    chunks: AsyncIterator[bytes] | None = None,
    take: Callable[[], Awaitable[None]] | None = None,
    whole: bool = False,
) -> Heard:
    """``chunks`` is the body as it arrives; then the client goes, unless the body is ``whole``.
    ``take`` runs before it takes a part of the answer's body."""
    heard, parts = Heard(), chunks or body_in()

    async def receive() -> Message:
        try:
            return {"type": "http.request", "body": await anext(parts), "more_body": True}
        except StopAsyncIteration:
            if chunks is not None and not whole:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert heard.status is None, "an answer begins once"
            heard.status = message["status"]
            heard.headers = {n.decode(): v.decode() for n, v in message["headers"]}
        else:
            if take is not None:
                await take()
            heard.body += message.get("body", b"")

    await app(scope, receive, send)
    return heard


def called(app: ASGIApp, scope: Scope, **how: Any) -> Heard:
    return asyncio.run(call(app, scope, **how))
