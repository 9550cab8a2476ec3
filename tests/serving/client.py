"""A client for an ASGI application in this process, its lifespan included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette


@dataclass(frozen=True)
class Client:
    """Blocking calls into the application's event loop."""

    http: httpx.AsyncClient
    portal: BlockingPortal

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.request("GET", path, **headers)

    def request(self, method: str, path: str, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}

        async def send() -> httpx.Response:
            return await self.http.request(method, path, headers=sent)

        return self.portal.call(send)


@contextmanager
def running(app: Starlette) -> Iterator[Client]:
    """Start the application, give a client, shut it down."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    http = httpx.AsyncClient(transport=transport, base_url="http://test")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
    ):
        yield Client(http, portal)
