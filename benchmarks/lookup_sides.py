"""The servers of the lookup benchmark, one to a process: `python -m benchmarks.lookup_sides SIDE ROOT PORT`.

- shipped: what `recsys serve` runs.
- constant: the same server, guard, routes, headers and metrics; a user's list is the same bytes every time.
- bare: the same server and an application of two lines.
"""

from __future__ import annotations

import sys
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.serving import ServingConfig
from recsys.serving.app import housekeeping
from recsys.serving.current import Current, Open
from recsys.serving.guard import guarded
from recsys.serving.metrics import Metrics
from recsys.serving.request import RequestIds
from recsys.serving.routes import Lookups
from recsys.serving.server import http_server, worker_app
from recsys.serving.store import PublishedReleases

N = 20
"""Items of an answer: about 1 KB."""
BODY = b"x" * 1090
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


class Constant(Lookups):
    """The routes, without a lookup."""

    def _user_list(self, opened: Open, request_id: bytes, user_id: str, query: bytes) -> bytes:
        return BODY


def constant_app(config: RecsysConfig) -> ASGIApp:
    """``create_app`` with ``Constant``."""
    settings, metrics, ids = config.serving, Metrics(), RequestIds()
    releases = PublishedReleases(config.paths)
    current = Current(releases, metrics)
    rest = housekeeping(settings, releases, current, metrics, ids)
    return guarded(Constant(current, metrics, ids, settings, rest), settings, metrics)


def bare_app(config: RecsysConfig) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": BODY})
            return
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    return app


SIDES = {"shipped": worker_app, "constant": constant_app, "bare": bare_app}
LIMITS = ("constant", "bare")
"""Those that look nothing up."""


def main(side: str, root: str, port: str) -> None:
    serving = ServingConfig(port=int(port), default_n=N)
    config = RecsysConfig(paths=PathsConfig(root=root), serving=serving)
    http_server(serving).serve(target_loader=partial(SIDES[side], config), wrap_loader=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
