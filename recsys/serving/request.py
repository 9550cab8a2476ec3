"""What a request asks for: its id and ``n``, read from the raw ASGI scope."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable
from urllib.parse import parse_qsl

_GOOD_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_MAX_DIGITS = 9
_SHOWN = 40
"""Characters of a bad value that are repeated to the client."""


class BadRequest(Exception):
    """A parameter that cannot be used; the message is for the client."""


class RequestIds:
    """Echoes the caller's X-Request-ID, or makes one that no other process makes."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(6).encode()
        self._numbers = itertools.count(1)

    def of(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        for name, value in headers:
            if name == b"x-request-id" and _GOOD_REQUEST_ID.fullmatch(value):
                return value
        return b"%b-%x" % (self._process, next(self._numbers))


def wanted_n(query: bytes, default: int, longest: int) -> int:
    """``n`` of the query string, from 1 to ``longest``; ``default`` (or what there is) when not given.

    Raises:
        BadRequest: not a whole number of that range, or given twice.
    """
    if not query:
        return min(default, longest)
    if query.startswith(b"n=") and query[2:].isdigit() and len(query) - 2 <= _MAX_DIGITS:
        values = [query[2:].decode()]
    else:
        values = [value for name, value in parameters(query) if name == "n"]
    if not values:
        return min(default, longest)
    [text, *more] = values
    good = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and not more
    if not good or not 1 <= int(text) <= longest:
        found = f"{len(values)} values" if more else repr(text[:_SHOWN])
        raise BadRequest(f"n must be a whole number from 1 to {longest}, got {found}")
    return int(text)


def parameters(query: bytes) -> list[tuple[str, str]]:
    """The query string's names and values.

    Raises:
        BadRequest: more than any of our routes takes.
    """
    try:
        return parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, errors="replace", max_num_fields=20
        )
    except ValueError:
        raise BadRequest("the query string has more than 20 parameters") from None
