"""The guard and the limits under granian: overload, slow clients, hostile ones, and the end of the process."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx
import pytest

from tests.serving.operations.load import load
from tests.serving.operations.servers import Server, tiny_server

WAIT = "/wait?seconds=0.05"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tiny_server(header_seconds=1, request_timeout_seconds=0.5, max_in_flight=16) as server:
        yield server


def said(connection: socket.socket) -> bytes:
    """All that the server says until it closes."""
    parts = []
    with suppress(ConnectionResetError):  # it closes on what it has not read
        while part := connection.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


def test_a_rush_gets_as_many_answers_as_fit_and_a_503_for_the_rest(server: Server) -> None:
    """Five times the limit, asking again and again; the limit's worth keeps circulating."""
    alone = load(server.port, WAIT, connections=8, seconds=1)
    rushed = load(server.port, WAIT, connections=80, seconds=2)
    after = load(server.port, WAIT, connections=8, seconds=1)

    assert set(alone.statuses) == set(after.statuses) == {200}
    assert set(rushed.statuses) == {200, 503}
    assert rushed.rate(200) >= 0.8 * alone.rate(200)
    assert rushed.without_retry_after == 0
    assert (alone.broken, rushed.broken, after.broken) == (0, 0, 0)
    refused = server.metric('recsys_refusals_total{reason="overload"}')
    assert refused >= rushed.statuses[503]


def test_probes_answer_in_the_rush(server: Server) -> None:
    with ThreadPoolExecutor() as threads:
        rush = threads.submit(load, server.port, WAIT, connections=80, seconds=1)
        server.until_metric("recsys_in_flight", 16)
        probes = [server.get(path).status_code for path in ("/healthz", "/readyz") * 5]
        rush.result()
    assert Counter(probes) == {200: 10}


def test_headers_that_do_not_come_end_the_connection(server: Server) -> None:
    with server.connect() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert said(slow) == b""


def test_headers_that_are_too_large_are_refused(server: Server) -> None:
    with server.connect() as large:
        with suppress(ConnectionError):
            large.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 10_000_000)
        assert said(large)[:13] in {b"HTTP/1.1 431 ", b""}


def test_a_body_that_does_not_come_is_answered_and_the_connection_closed(server: Server) -> None:
    with server.connect() as slow:
        slow.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        answer = said(slow)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body took over 0.5 s" in answer


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(
    server: Server, chunked: bool
) -> None:
    kind = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1000000000"
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n" if chunked else b"x" * 10
    with server.connect() as large:
        large.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\n" + kind + b"\r\n\r\n" + chunk)
        if chunked:
            large.sendall(b"1\r\nx\r\n")
        assert said(large).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_does_not_read_loses_its_connection(server: Server) -> None:
    """More than the kernel's buffers hold; the refusal is counted and the server answers others meanwhile."""
    before = server.metric('recsys_refusals_total{reason="slow_reader"}')
    with server.connect() as slow:
        slow.sendall(b"POST /big?bytes=50000000 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert server.get("/").status_code == 200
        server.until_metric('recsys_refusals_total{reason="slow_reader"}', before + 1)
        assert len(said(slow)) < 50_000_000


def test_a_large_answer_reaches_a_client_that_reads(server: Server) -> None:
    answer = httpx.post(server.address + "/big?bytes=5000000", timeout=60)
    assert (answer.status_code, answer.content) == (200, b"x" * 5_000_000)


@pytest.mark.parametrize(
    "request_",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_harms_nobody(server: Server, request_: bytes) -> None:
    with server.connect() as hostile:
        hostile.sendall(request_)
        answer = said(hostile)
    assert not answer or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 ")), answer
    assert server.get("/").status_code == 200


def test_a_fault_of_ours_shows_no_trace_of_it(server: Server) -> None:
    answer = server.get("/boom")
    assert answer.status_code == 500
    assert "secret" not in answer.text and "Traceback" not in answer.text


def test_what_was_begun_is_answered_before_the_end() -> None:
    with tiny_server() as server, ExitStack() as open_:
        asking = [open_.enter_context(server.connect()) for _ in range(10)]
        for connection in asking:
            connection.sendall(b"GET /wait?seconds=2 HTTP/1.1\r\nHost: x\r\n\r\n")
        server.until_metric("recsys_in_flight", 11)  # and the one that asks
        server.told_to_end()
        answers = [said(connection) for connection in asking]
        assert server.ended() == 0
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert all(answer.endswith(b"\r\n\r\ndone") for answer in answers)


def test_a_drain_has_an_end() -> None:
    with tiny_server(drain_seconds=1) as server, server.connect() as endless:
        endless.sendall(b"GET /wait?seconds=600 HTTP/1.1\r\nHost: x\r\n\r\n")
        server.until_metric("recsys_in_flight", 2)
        server.told_to_end()
        server.ended()
        assert said(endless) == b""
