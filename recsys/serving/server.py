"""Run the service: granian, as many workers as conf says, each with its own map of one snapshot."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.common import AbstractServer
from starlette.types import ASGIApp

from recsys.config import RecsysConfig
from recsys.config.serving import ServingConfig
from recsys.errors import Conflict
from recsys.logs import configure_logs
from recsys.release.following import following
from recsys.serving.all_workers import shared_folder
from recsys.serving.app import create_app
from recsys.serving.current import Current
from recsys.serving.limits import server_options
from recsys.serving.metrics import Metrics
from recsys.serving.store import PublishedReleases


def serve(config: RecsysConfig, announce: Callable[[str], None]) -> None:
    """Serve until a signal ends it; ``announce`` gets one line with the address.

    Releases are pulled meanwhile where ``serving.pull_from`` names a place.

    Raises:
        MissingInput: no release is live, and none is announced where this host pulls from.
        CorruptArtifact: the live release is damaged and there is no previous one.
        Conflict: the port is taken.
    """
    with following(config, lambda: datetime.now(UTC)):
        _serve(config, announce)


def _serve(config: RecsysConfig, announce: Callable[[str], None]) -> None:
    serving = config.serving
    # Once here, so that what is wrong is said plainly and not by a worker that dies.
    first = Current(PublishedReleases(config.paths), Metrics())
    first.start()
    release_id, problem = first.open.store.release_id, first.problem
    first.close()
    _check_port(serving.host, serving.port)
    address = f"http://{serving.host}:{serving.port}"
    announce(
        f"serving release {release_id} on {address} (try {address}/v1/popular?n=5; Ctrl-C ends)"
    )
    if problem:
        announce(f"degraded: {problem}")
    with shared_folder(serving.workers) as shared:
        load = partial(worker_app, config, shared)
        http_server(serving).serve(target_loader=load, wrap_loader=False)


def http_server(serving: ServingConfig) -> AbstractServer[Any]:
    """The server as shipped, whatever application it is given."""
    server: AbstractServer[Any] = Granian(
        "recsys.serving.server:worker_app",
        address=serving.host,
        port=serving.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        workers=serving.workers,
        websockets=False,
        log_level=LogLevels.warning,
        **server_options(serving),
    )
    return server


def worker_app(config: RecsysConfig, shared: Path | None = None) -> ASGIApp:
    """The application, made in each worker: a process of its own, whose logs are not set up yet."""
    configure_logs(job="serve")
    return create_app(config.serving, PublishedReleases(config.paths), shared)


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(
                f"cannot listen on {host}:{port}: {error.strerror}; "
                "choose another with --set serving.port=8001"
            ) from None
