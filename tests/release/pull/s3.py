"""An S3 server (moto's, Apache-2.0) as a process of its own on loopback, behind a wire that a test can cut."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
READ_BYTES = 1 << 14
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
}  # fmt: skip
"""Any key will do. One attempt of the client's, so that a cut is told in seconds; s3fs tries five times itself."""


@dataclass
class Wire:
    """What lies between a client and the server."""

    server: tuple[str, int]
    url: str = ""
    left: int | None = None
    """So many bytes of answers still pass, then every connection breaks, and each new one; None: all pass."""
    passed: int = 0
    """Bytes of answers."""
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""

    def mend(self) -> None:
        self.left, self.passed = None, 0
        del self.asked[:]

    def puts(self) -> list[str]:
        return [one.removeprefix("PUT ") for one in self.asked if one.startswith("PUT ")]

    def answer(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.server) as server:
            asking = threading.Thread(target=self._ask, args=(client, server))
            asking.start()
            with suppress(OSError):
                while part := server.recv(READ_BYTES):
                    if self.left is not None:
                        part = part[: self.left]
                        self.left -= len(part)
                    client.sendall(part)
                    self.passed += len(part)
                    if self.left == 0:
                        _reset(client)
                        break
            for one in (client, server):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            asking.join()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while part := client.recv(READ_BYTES):
                if found := re.match(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n", part):
                    self.asked.append(f"{found[1].decode()} {found[2].decode()}")
                server.sendall(part)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    """A close that the other side sees as a machine that lost its power."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address; it listens, and ends when its standard input does."""
    command = [sys.executable, "-W", "ignore", "-c", SERVER]
    with subprocess.Popen(
        command, env={**os.environ, **SETTINGS}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, f"moto's server ended with {process.wait()}"
        yield f"http://127.0.0.1:{port}"


def make_bucket(url: str, name: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{url}/{name}", method="PUT")).close()


@contextmanager
def wire_to(url: str) -> Iterator[Wire]:
    """A wire to the server at ``url``, whole."""
    host, port = url.removeprefix("http://").split(":")
    wire = Wire((host, int(port)))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        wire.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        threads: list[threading.Thread] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    if wire.left == 0:
                        _reset(client)
                        client.close()
                        continue
                    threads.append(
                        threading.Thread(target=wire.answer, args=(client,), daemon=True)
                    )
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield wire
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
