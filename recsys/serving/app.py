"""The wiring: routes, the watch on the pointer, health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import orjson
import structlog
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recsys.config.sections import ServingConfig
from recsys.serving.current import Current
from recsys.serving.metrics import Metrics
from recsys.serving.openapi import document
from recsys.serving.request import RequestIds
from recsys.serving.routes import REQUEST_ID, ItemRoute, PopularRoute, UserRoute, error_body
from recsys.serving.store import Releases

log = structlog.get_logger()

JSON = "application/json"
INTERNAL_ERROR = 500


class IdConvertor(Convertor[str]):
    """An id in a path may hold anything, slashes and newlines too."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", IdConvertor())


def create_app(settings: ServingConfig, releases: Releases) -> Starlette:
    """The ASGI application over ``releases``.

    The live release is opened at start-up, so that a service without one fails before its first request.
    """
    metrics = Metrics()
    current = Current(releases, metrics)
    ids = RequestIds()
    openapi = orjson.dumps(document(), option=orjson.OPT_INDENT_2)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        current.start()
        watch = asyncio.create_task(current.watch(settings.poll_seconds))
        try:
            yield
        finally:
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
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def show_openapi(_: Request) -> Response:
        return Response(openapi, media_type=JSON)

    async def on_error(request: Request, error: Exception) -> Response:
        """No route, a wrong method, or a fault of ours; never a stack trace to a client."""
        status, headers = INTERNAL_ERROR, {}
        message = "internal error; the log has it under this request id"
        if isinstance(error, HTTPException):
            status, message = error.status_code, error.detail
            headers = dict(error.headers or {})
        # A list route that failed has noted its id; where none was reached there is none yet.
        request_id = request.scope.get(REQUEST_ID) or ids.of(request.scope["headers"])
        if status == INTERNAL_ERROR:
            path, known_as = request.scope["path"], request_id.decode()
            log.error("request_failed", request_id=known_as, path=path, exc_info=error)
        metrics.requests.labels("other", status).inc()
        body = error_body(current.open, request_id, message)
        headers["x-request-id"] = request_id.decode()
        return Response(body, status, headers=headers, media_type=JSON)

    lists = (current, metrics, ids, settings.default_n)
    return Starlette(
        routes=[
            Route("/v1/users/{user_id:id}/recommendations", UserRoute(*lists), methods=["GET"]),
            Route("/v1/items/{item_id:id}/similar", ItemRoute(*lists), methods=["GET"]),
            Route("/v1/popular", PopularRoute(*lists), methods=["GET"]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", show_metrics),
            Route("/openapi.json", show_openapi),
        ],
        exception_handlers={HTTPException: on_error, Exception: on_error},
        lifespan=lifespan,
    )


def _json(content: dict[str, object]) -> Response:
    return Response(orjson.dumps(content), media_type=JSON)
