"""A web server over a folder, on loopback: ranges, and faults that land where a test says."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass
class Web:
    """The server, what it was asked, and what it is to do wrong."""

    folder: Path
    knows_ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    """The next answers with a body of ``cut_file`` end after so many bytes; a negative one with a reset."""
    cut_file: str = "data.mdb"
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and first byte of every request."""
    cut: list[tuple[str, int]] = field(default_factory=list)
    """Path and bytes sent of every answer that was cut: the proof that the fault landed."""
    release: threading.Event = field(default_factory=threading.Event)
    """Set: data flows. Cleared: answers of ``cut_file`` wait before their first byte."""
    waiting: threading.Event = field(default_factory=threading.Event)
    """Set once such an answer waits."""
    url: str = ""

    def starts(self, name: str) -> list[int]:
        """The first bytes that were asked of a file."""
        return [
            start for method, path, start in self.asked if method == "GET" and path.endswith(name)
        ]


@contextmanager
def web_server(folder: Path, port: int = 0) -> Iterator[Web]:
    web = Web(folder)
    web.release.set()

    class Handler(_Handler):
        state = web

    server = _Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield web
    finally:
        web.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news here."""


class _Handler(BaseHTTPRequestHandler):
    state: Web

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        web, path = self.state, unquote(self.path)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "") or "")
        web.asked.append((self.command, path, int(asked[1]) if asked else 0))
        try:
            content = (web.folder / path.lstrip("/")).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            self.send_error(404)
            return
        start = int(asked[1]) if asked and web.knows_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body:
            self._send(path, content[start:])

    def _send(self, path: str, content: bytes) -> None:
        web = self.state
        if not path.endswith(web.cut_file):
            self.wfile.write(content)
            return
        if not web.release.is_set():
            web.waiting.set()
            web.release.wait()
        if not web.cuts:
            self.wfile.write(content)
            return
        after = web.cuts.pop(0)
        sent = content[: abs(after)]
        self.wfile.write(sent)
        self.wfile.flush()
        web.cut.append((path, len(sent)))
        if after < 0:  # close with a reset, as a machine that lost its power would seem to
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """The tests look at ``asked``."""
