"""A folder that a web server shows, read with the standard library: a lookup host needs no further package.

The server must answer HEAD with a length; where it knows ranges (RFC 9110, section 14) a download that was
cut goes on where it stopped, else what is there already is read again and thrown away.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from recsys.release.remote import CHUNK_BYTES, MOST_READ_BYTES, Unreachable, small, unreachable

TIMEOUT_SECONDS = 20.0
"""Without a byte for so long a connection counts as cut."""
READ_BYTES = 1 << 16
"""Read and handed on at a time: what a cut can lose."""


class HttpPlace:
    """The folder at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def size(self, name: str) -> int | None:
        response = self._ask(name, "HEAD")
        if response is None:
            return None
        with response:
            length = response.headers.get("Content-Length", "")
        if not length.isdigit():
            raise Unreachable(
                f"{self.url}/{name}: the server does not say how long it is; it must answer HEAD with a length"
            )
        return int(length)

    def read(self, name: str) -> bytes | None:
        response = self._ask(name)
        if response is None:
            return None
        with response:
            try:
                return small(self.url, name, response.read(MOST_READ_BYTES + 1))
            except (OSError, http.client.HTTPException) as error:
                raise unreachable(self.url, name, error) from error

    def chunks(self, name: str, start: int) -> Iterator[bytes]:
        response = self._ask(name, start=start)
        if response is None:
            raise Unreachable(f"{self.url}/{name} is not there (any more)")
        with response:
            try:
                if response.status != HTTPStatus.PARTIAL_CONTENT:
                    _skip(response, start)
                while chunk := response.read(READ_BYTES):
                    yield chunk
            except (OSError, http.client.HTTPException) as error:
                raise unreachable(self.url, name, error) from error

    def _ask(self, name: str, method: str = "GET", start: int = 0) -> Any:
        """The open response; None where there is no such file."""
        headers = {"Accept-Encoding": "identity", "Cache-Control": "no-cache"}
        if start:
            headers["Range"] = f"bytes={start}-"
        asked = urllib.request.Request(f"{self.url}/{quote(name)}", headers=headers, method=method)
        try:
            return urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
                    return None
                raise unreachable(self.url, name, error) from None
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self.url, name, error) from error


def _skip(response: Any, start: int) -> None:
    """Past the first ``start`` bytes, of a server that does not know ranges."""
    while start > 0 and (passed := response.read(min(start, CHUNK_BYTES))):
        start -= len(passed)
