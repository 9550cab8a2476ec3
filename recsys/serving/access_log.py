"""A line for each request that names no customer: users are keyed hashes, paths are the names of routes."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.serving.paths import AFTER_ITEM, BATCH, ITEMS, OF_USER, POPULAR, SESSION, USERS

log = structlog.get_logger()

USER_ID = "recsys.user_id"
"""Key of the ASGI scope under which a route leaves the user that it found in a request's body."""
_HASH_BYTES = 8
_LONGEST_KEY = 64
"""What BLAKE2b takes."""

_WITH_USER = {
    # route: what stands before the user's id in its path, and after
    "recommendations": (USERS, OF_USER),
    "page_customer": ("/page/customers/", ""),
}
_WITHOUT_USER = {
    "/": "page",
    "/healthz": "healthz",
    "/metrics": "metrics",
    "/openapi.json": "openapi",
    "/readyz": "readyz",
    POPULAR: "popular",
    SESSION: "session",
    BATCH: "batch",
}


class AccessLog:
    """Wraps an ASGI application."""

    def __init__(self, app: ASGIApp, key: bytes) -> None:
        """Without a ``key`` one is drawn that nobody learns: lines of one process can be told together,
        and not whom they are about."""
        self._app = app
        self._key = hashlib.blake2b(key or secrets.token_bytes(), digest_size=_LONGEST_KEY).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        noted = Noted(send)
        try:
            await self._app(scope, receive, noted)
        finally:
            route, user_id = route_of(scope["path"])
            user_id = scope.get(USER_ID, user_id)
            log.info(
                "request",
                request_id=noted.request_id,
                method=scope["method"],
                route=route,
                user=None if user_id is None else self.hash_of(user_id),
                status=noted.status,
                bytes=noted.num_bytes,
                milliseconds=round(1000 * (time.perf_counter() - started), 3),
            )

    def hash_of(self, user_id: str) -> str:
        """The same user, the same hash; without the key nobody can try all users to find which it is."""
        raw = user_id.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self._key, digest_size=_HASH_BYTES).hexdigest()


@dataclass
class Noted:
    """``send`` that notes what goes out."""

    send: Send
    status: int | None = None
    """None where the client went away before there was an answer."""
    request_id: str | None = None
    num_bytes: int = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            for name, value in message["headers"]:
                if name == b"x-request-id":
                    self.request_id = value.decode("latin-1")
        else:
            self.num_bytes += len(message.get("body", b""))
        await self.send(message)


def route_of(path: str) -> tuple[str, str | None]:
    """The route's name and the user's id in its path. A path that is no route of ours may hold anything."""
    for route, (before, after) in _WITH_USER.items():
        if path.startswith(before) and path.endswith(after):
            return route, path[len(before) : len(path) - len(after)]
    if path.startswith(ITEMS):
        return "also_bought" if path.endswith(AFTER_ITEM) else "similar", None
    return _WITHOUT_USER.get(path, "other"), None
