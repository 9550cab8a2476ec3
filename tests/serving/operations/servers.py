"""Servers under test: processes of their own that listen on loopback."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from tests.setup.conftest import CHECKOUT

PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.address + path, timeout=PATIENCE_SECONDS, headers=headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def metric(self, line: str) -> float:
        """The value of one series, such as ``recsys_in_flight``."""
        text = self.get("/metrics").text
        [found] = re.findall(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
        return float(found)

    def until_metric(self, line: str, value: float) -> None:
        """Wait until a series has at least this value."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self.metric(line)) < value:
            assert time.monotonic() < deadline, f"{line} is {found}, {value} was waited for"
            time.sleep(0.01)

    def told_to_end(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        return self.process.wait(timeout=PATIENCE_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, ready: str) -> Iterator[Server]:
    """Start, wait until ``ready`` is answered, end."""
    process = subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True)
    server = Server(process, port)
    try:
        wait_until_ready(server, ready)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)


def wait_until_ready(server: Server, path: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            server.get(path)
            return
        except httpx.TransportError:
            assert server.process.poll() is None, server.process.communicate()
            assert time.monotonic() < deadline, f"nothing answers at {server.address}"
            time.sleep(0.02)


@contextmanager
def tiny_server(header_seconds: float = 30, **settings: object) -> Iterator[Server]:
    """``tiny.py`` under these settings of the section serving."""
    port = free_port()
    command = [sys.executable, "-m", "tests.serving.operations.tiny"]
    command += [json.dumps({"port": port, **settings}), str(header_seconds)]
    with running(command, port, "/healthz") as server:
        yield server


@contextmanager
def shop_server(**settings: object) -> Iterator[Server]:
    """``shop.py`` under these settings of the section serving."""
    port = free_port()
    command = [sys.executable, "-m", "tests.serving.operations.shop"]
    with running([*command, json.dumps({"port": port, **settings})], port, "/readyz") as server:
        yield server
