"""The wiring: the lookups, the watches on pointer and blocked items, health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
import structlog
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from recsys.config.serving import ServingConfig
from recsys.serving import page
from recsys.serving.access_log import route_of
from recsys.serving.current import Current
from recsys.serving.guard import guarded
from recsys.serving.metrics import Metrics
from recsys.serving.openapi import document
from recsys.serving.request import RequestIds
from recsys.serving.routes import INTERNAL_ERROR, Lookups, error_body
from recsys.serving.store import Releases

log = structlog.get_logger()

JSON = "application/json"
SERVER_ERROR = 500


def create_app(settings: ServingConfig, releases: Releases, shared: Path | None = None) -> ASGIApp:
    """The ASGI application over ``releases``; ``shared`` as ``Metrics`` wants it.

    The live release is opened at start-up, so that a service without one fails before its first request.
    """
    metrics = Metrics(shared)
    current = Current(releases, metrics, salt=str(settings.default_n))
    ids = RequestIds()
    rest = housekeeping(settings, releases, current, metrics, ids)
    lookups = Lookups(current, metrics, ids, settings, rest)
    return guarded(lookups, settings, metrics)


def housekeeping(
    settings: ServingConfig,
    releases: Releases,
    current: Current,
    metrics: Metrics,
    ids: RequestIds,
) -> Starlette:
    """What is asked for now and then: health, metrics, the document; and the life of the application."""
    openapi = orjson.dumps(document(settings.batch_limit), option=orjson.OPT_INDENT_2)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        current.start()
        watches = [
            asyncio.create_task(current.watch(settings.poll_seconds, current.look)),
            asyncio.create_task(
                current.watch(settings.blocked_poll_seconds, current.look_at_blocked)
            ),
        ]
        if metrics.workers:
            watches.append(asyncio.create_task(metrics.workers.keep_written()))
        try:
            yield
        finally:
            for watch in watches:
                watch.cancel()
                with suppress(asyncio.CancelledError):
                    await watch
            current.close()

    async def healthz(_: Request) -> Response:
        return _json({"status": "ok", "release": current.open.store.release_id})

    async def readyz(_: Request) -> Response:
        return _json(
            {
                "ready": True,
                "degraded": bool(current.problem),
                "release": current.open.store.release_id,
                "problem": current.problem,
            }
        )

    async def show_metrics(_: Request) -> Response:
        metrics.describe_pull(releases.pulled())
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def show_openapi(_: Request) -> Response:
        return Response(openapi, media_type=JSON)

    async def on_error(request: Request, error: Exception) -> Response:
        """No route, a wrong method, or a fault of ours; never a stack trace to a client."""
        status, headers, message = SERVER_ERROR, {}, INTERNAL_ERROR
        if isinstance(error, HTTPException):
            status, message = error.status_code, error.detail
            headers = dict(error.headers or {})
        request_id = ids.of(request.scope["headers"])
        if status == SERVER_ERROR:
            route, _ = route_of(request.scope["path"])  # the path itself may name a customer
            known_as = request_id.decode()
            log.error("request_failed", request_id=known_as, route=route, exc_info=error)
        metrics.routes["other"].add(status, 0.0)
        body = error_body(current.open, request_id, message)
        headers["x-request-id"] = request_id.decode()
        return Response(body, status, headers=headers, media_type=JSON)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", show_metrics),
            Route("/openapi.json", show_openapi),
            *(page.routes(current) if settings.page else ()),
        ],
        exception_handlers={HTTPException: on_error, Exception: on_error},
        lifespan=lifespan,
    )


def _json(content: dict[str, object]) -> Response:
    return Response(orjson.dumps(content), media_type=JSON)
