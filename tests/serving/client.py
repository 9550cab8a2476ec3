"""A client for an ASGI application in this process, its lifespan included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp, Message


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

    def post(self, path: str, body: object) -> httpx.Response:
        """``body`` as JSON; bytes as they are."""

        async def send() -> httpx.Response:
            if isinstance(body, bytes):
                return await self.http.post(path, content=body)
            return await self.http.post(path, json=body)

        return self.portal.call(send)


@contextmanager
def running(app: ASGIApp) -> Iterator[Client]:
    """Start the application, give a client, shut it down."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    http = httpx.AsyncClient(transport=transport, base_url="http://test")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_lifespan(app)),
    ):
        yield Client(http, portal)


@asynccontextmanager
async def _lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """What a server tells an application at its start and at its end; its failure to start is raised here."""
    told: asyncio.Queue[Message] = asyncio.Queue()
    said: asyncio.Queue[Message] = asyncio.Queue()
    life = asyncio.ensure_future(app({"type": "lifespan", "asgi": {}}, told.get, said.put))
    await told.put({"type": "lifespan.startup"})
    message = await said.get()
    if message["type"] == "lifespan.startup.failed":
        await life
    try:
        yield
    finally:
        await told.put({"type": "lifespan.shutdown"})
        await life
