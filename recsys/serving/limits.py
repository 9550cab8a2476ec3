"""What the HTTP server itself bounds, before the application hears of a request."""

from __future__ import annotations

from typing import TypedDict

from granian.http import HTTP1Settings

from recsys.config.serving import ServingConfig

CONNECTIONS = 1024
"""Open at a time, for each worker; the next ones wait in the kernel's queue."""
HEADER_BYTES = 65536
"""Request line and headers; more is a 431."""
HEADER_SECONDS = 30.0
"""For the headers to arrive, and for a connection to rest between two requests: a proxy in front must let go of
idle ones sooner (nginx: ``keepalive_timeout 20s`` in the upstream)."""


class ServerOptions(TypedDict):
    """Arguments of ``Granian``."""

    backpressure: int
    http1_settings: HTTP1Settings
    workers_kill_timeout: int


def server_options(serving: ServingConfig) -> ServerOptions:
    """Told to end, granian closes its socket and answers what it has begun: ``drain_seconds`` bound that.

    A connection that has sent no whole request by then is waited for as long, for nothing.
    """
    return {
        "backpressure": CONNECTIONS,
        "http1_settings": HTTP1Settings(
            header_read_timeout=round(1000 * HEADER_SECONDS), max_buffer_size=HEADER_BYTES
        ),
        "workers_kill_timeout": serving.drain_seconds,
    }
