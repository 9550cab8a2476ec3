"""A guarded application of a few lines, run by granian as the service is: `python -m tests.serving.operations.tiny`."""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.config.serving import ServingConfig
from recsys.serving import limits
from recsys.serving.guard import guarded
from recsys.serving.metrics import Metrics
from recsys.serving.server import http_server


def tiny(metrics: Metrics) -> ASGIApp:
    """/wait?seconds= and /work?seconds= (of the processor), /big?bytes=, /echo, /boom, /metrics."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for moment in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{moment}.complete"})
            return
        asked = {k: v[0] for k, v in parse_qs(scope["query_string"].decode()).items()}
        path, body = scope["path"], b"done"
        if path == "/wait":
            await asyncio.sleep(float(asked["seconds"]))
        elif path == "/work":
            end = time.perf_counter() + float(asked["seconds"])
            while time.perf_counter() < end:
                pass
        elif path == "/big":
            body = b"x" * int(asked["bytes"])
        elif path == "/echo":
            body = (await receive())["body"]
        elif path == "/metrics":
            body = metrics.text()
        elif path == "/boom":
            raise ZeroDivisionError("a secret of ours")
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def guarded_tiny(settings: ServingConfig) -> ASGIApp:
    metrics = Metrics()
    return guarded(tiny(metrics), settings, metrics)


def main(settings: str, header_seconds: str) -> None:
    limits.HEADER_SECONDS = float(header_seconds)
    serving = ServingConfig.model_validate_json(settings)
    http_server(serving).serve(target_loader=partial(guarded_tiny, serving), wrap_loader=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
