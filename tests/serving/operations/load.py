"""Load over loopback: so many connections, each asking again as soon as it is answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

END_OF_HEADERS = b"\r\n\r\n"
LENGTH = b"content-length: "


@dataclass
class Load:
    """What clients heard."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    """Seconds, of the answers with status 200."""
    without_retry_after: int = 0
    """Of the answers with status 503."""
    broken: int = 0
    """Connections that the server closed before an answer was whole."""

    def rate(self, status: int) -> float:
        """Answers with this status a second."""
        return self.statuses[status] / self.seconds

    def p99_milliseconds(self) -> float:
        return 1000 * sorted(self.latencies)[int(0.99 * len(self.latencies))]


class Client(asyncio.Protocol):
    """One connection. Reads no more of an answer than it needs, so that the clients are not what is slow."""

    def __init__(self, load: Load, request: bytes) -> None:
        self._load = load
        self._request = request
        self._held = b""
        self._asked = 0.0
        self._stopping = False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def stop(self) -> None:
        """After the answer that is on its way."""
        self._stopping = True

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(END_OF_HEADERS)
        if end < 0:
            return
        head = self._held[:end]
        begin = head.index(LENGTH) + len(LENGTH)
        length = int(head[begin:].partition(b"\r\n")[0])
        if len(self._held) < end + len(END_OF_HEADERS) + length:
            return
        self._held = b""
        self._count(head)
        if self._stopping:
            self._transport.close()
        else:
            self._ask()

    def _count(self, head: bytes) -> None:
        status = int(head[9:12])
        self._load.statuses[status] += 1
        if status == 200:
            self._load.latencies.append(time.perf_counter() - self._asked)
        elif b"retry-after: " not in head:
            self._load.without_retry_after += 1

    def connection_lost(self, error: Exception | None) -> None:
        if not self._transport.is_closing() or error is not None:
            self._load.broken += 1
        if not self.done.done():
            self.done.set_result(None)

    def eof_received(self) -> None:
        if not self._stopping:
            self._load.broken += 1


def load(port: int, path: str, *, connections: int, seconds: float) -> Load:
    """Ask for ``path`` from all connections at once for so long."""
    return asyncio.run(_load(port, path, connections, seconds))


async def _load(port: int, path: str, connections: int, seconds: float) -> Load:
    heard = Load()
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = await asyncio.gather(
        *(
            loop.create_connection(lambda: Client(heard, request), "127.0.0.1", port)
            for _ in range(connections)
        )
    )
    clients = [client for _, client in made]
    await asyncio.sleep(seconds)
    for client in clients:
        client.stop()
    await asyncio.gather(*(client.done for client in clients))
    heard.seconds = time.perf_counter() - began
    return heard
