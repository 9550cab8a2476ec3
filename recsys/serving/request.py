"""What a request asks for, read from the raw ASGI scope and from the bodies of the two POST routes."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive

_GOOD_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_MAX_DIGITS = 9
_SHOWN = 40
"""Characters of a bad value that are repeated to the client."""
MOST_IDS = 100
"""Items that one request may exclude, or bring as recent."""
_MOST_PARAMETERS = MOST_IDS + 10
OF_LISTS = ("n", "exclude", "category")
"""Parameters of every list."""


class BadRequest(Exception):
    """A request that cannot be answered; the message is for the client."""

    status = 422


class NotJson(BadRequest):
    status = 400


class NotFound(BadRequest):
    status = 404


class WrongMethod(BadRequest):
    status = 405

    def __init__(self, allowed: str) -> None:
        super().__init__("Method Not Allowed")
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is to leave out."""

    exclude: frozenset[str] = frozenset()
    category: str = ""
    """Only items of this category, or of one below it; '' for all."""


@dataclass(frozen=True)
class SessionWish:
    """The body of ``POST /v1/recommendations``."""

    user_id: str | None
    recent: tuple[str, ...]
    """Oldest first, as histories are; the newest weighs most."""
    exclude: frozenset[str]
    n: int


@dataclass(frozen=True)
class BatchWish:
    """The body of ``POST /v1/recommendations:batch``."""

    user_ids: list[str]
    n: int


class RequestIds:
    """Echoes the caller's X-Request-ID, or makes one that no other process makes."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(6).encode()
        self._numbers = itertools.count(1)

    def of(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        return self.with_etags(headers)[0]

    def with_etags(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        """The request's id and its If-None-Match (b"" where there is none), in one pass."""
        request_id = etags = b""
        for name, value in headers:
            if name == b"x-request-id":
                if not request_id and _GOOD_REQUEST_ID.fullmatch(value):
                    request_id = value
            elif name == b"if-none-match":
                etags = value
        return request_id or b"%b-%x" % (self._process, next(self._numbers)), etags


def read_query(
    query: bytes, default: int, longest: int, *, also: Sequence[str] = ()
) -> tuple[int, Filters | None]:
    """``n`` and what to leave out; None where that is nothing, as in nearly every request.

    A parameter that is neither of ``OF_LISTS`` nor of ``also`` is refused: a slip in `exclude` would show what must
    not be shown.

    Raises:
        BadRequest: a parameter that cannot be used.
    """
    if not query:
        return min(default, longest), None
    if query.startswith(b"n=") and query[2:].isdigit():
        return wanted_n(query, default, longest), None
    given = parameters(query)
    for name, _ in given:
        _refuse_unknown("parameter", name, (*OF_LISTS, *also))
    n = wanted_n(query, default, longest)
    exclude = frozenset(value for name, value in given if name == "exclude")
    if len(exclude) > MOST_IDS:
        raise BadRequest(f"exclude: at most {MOST_IDS} items, got {len(exclude)}")
    categories = [value for name, value in given if name == "category" and value]
    if len(categories) > 1:
        raise BadRequest(f"category: one at most, got {len(categories)}")
    if not exclude and not categories:
        return n, None
    return n, Filters(exclude, *categories)


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
            query.decode("latin-1"),
            keep_blank_values=True,
            errors="replace",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise BadRequest(f"the query string has more than {_MOST_PARAMETERS} parameters") from None


async def body_of(receive: Receive) -> bytes | None:
    """The request's body, or None where the client went away before its end. The guard bounds its size."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def session_wish(body: bytes, default: int, longest: int) -> SessionWish:
    """Raises BadRequest, which names the key."""
    given = _object(body, ("user_id", "recent", "exclude", "n"))
    user_id = given.get("user_id")
    if user_id is not None and not isinstance(user_id, str):
        raise BadRequest(f"user_id must be a string, got {_shown(user_id)}")
    return SessionWish(
        user_id=user_id,
        recent=tuple(_ids(given, "recent", MOST_IDS)),
        exclude=frozenset(_ids(given, "exclude", MOST_IDS)),
        n=_body_n(given, default, longest),
    )


def batch_wish(body: bytes, default: int, longest: int, most_users: int) -> BatchWish:
    """Raises BadRequest, which names the key."""
    given = _object(body, ("user_ids", "n"))
    if not given.get("user_ids"):
        raise BadRequest(f'no user_ids: send {{"user_ids": ["ID", …]}}, 1 to {most_users} of them')
    return BatchWish(_ids(given, "user_ids", most_users), _body_n(given, default, longest))


def _object(body: bytes, known: Sequence[str]) -> dict[str, Any]:
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(f"the body is not JSON: {str(error)[:80]}") from None
    if not isinstance(given, dict):
        raise BadRequest(f"the body must be a JSON object, got {_shown(given)}")
    for key in given:
        _refuse_unknown("key", key, known)
    return given


def _refuse_unknown(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = get_close_matches(name[:_SHOWN], known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
        raise BadRequest(f"unknown {what} {name[:_SHOWN]!r}{hint}")


def _ids(given: dict[str, Any], key: str, most: int) -> list[str]:
    ids = given.get(key)
    if ids is None:
        return []
    if not isinstance(ids, list) or not set(map(type, ids)) <= {str}:
        raise BadRequest(f"{key} must be a list of strings, got {_shown(ids)}")
    if len(ids) > most:
        raise BadRequest(f"{key}: at most {most}, got {len(ids)}")
    return ids


def _body_n(given: dict[str, Any], default: int, longest: int) -> int:
    n = given.get("n")
    if n is None:
        return min(default, longest)
    if type(n) is not int or not 1 <= n <= longest:
        raise BadRequest(f"n must be a whole number from 1 to {longest}, got {_shown(n)}")
    return n


def _shown(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
