"""The routes under /v1 as one plain ASGI application, in front of the framework.

A hit is one read of the memory map and one write. What a framework does for every request (matching patterns,
objects for the request and its headers, layers for errors) would cost more than the answer itself; the few string
comparisons here are all of it that these routes need.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import orjson
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.config.serving import ServingConfig
from recsys.release.stored_list import WHOLE_SHOP, Bytes, first_of_each
from recsys.serving.access_log import USER_ID, route_of
from recsys.serving.answers import Answers, Found
from recsys.serving.current import Current, Open
from recsys.serving.metrics import Metrics, Tally
from recsys.serving.paths import AFTER_ITEM, BATCH, ITEMS, OF_ITEM, OF_USER, POPULAR, SESSION, USERS
from recsys.serving.request import (
    BadRequest,
    BatchWish,
    NotFound,
    RequestIds,
    WrongMethod,
    batch_wish,
    body_of,
    parameters,
    read_query,
    session_wish,
)
from recsys.serving.session import Sessions

log = structlog.get_logger()

JSON = (b"content-type", b"application/json")
REVALIDATE = (b"cache-control", b"no-cache")
"""A list may be kept, and asked about by its ETag before it is used again."""
NOT_MODIFIED = 304
PERSONAL = b"personal"
INTERNAL_ERROR = "internal error; the log has it under this request id"

Get = Callable[[Open, bytes, str, bytes], bytes]
"""(open, request id, id in the path, query) -> body. Raises BadRequest."""
Post = Callable[[Open, bytes, bytes, Scope], bytes]
"""(open, request id, body, scope) -> body. Raises BadRequest."""


class Lookups:
    """Answers what lies under /v1; everything else goes on to ``rest``."""

    def __init__(
        self,
        current: Current,
        metrics: Metrics,
        ids: RequestIds,
        settings: ServingConfig,
        rest: ASGIApp,
    ) -> None:
        self._current = current
        self._metrics = metrics
        self._ids = ids
        self._settings = settings
        self._default_n = settings.default_n
        self._rest = rest
        self._answers = Answers(metrics)
        self._sessions = Sessions(self._answers, metrics)
        routes = metrics.routes
        self._of_user = (self._user_list, routes["recommendations"])
        self._of_item = (self._shelf, routes["similar"])
        self._after_item = (self._also_bought, routes["also_bought"])
        self._popular = (self._popular_list, routes["popular"])
        self._posts: dict[str, tuple[Post, Tally]] = {
            SESSION: (self._session, routes["session"]),
            BATCH: (self._batch, routes["batch"]),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if not path.startswith("/v1/"):
            await self._rest(scope, receive, send)
        elif path.startswith(USERS) and path.endswith(OF_USER):
            await self._get(self._of_user, path[len(USERS) : -len(OF_USER)], scope, send)
        elif path.startswith(ITEMS) and path.endswith(OF_ITEM):
            await self._get(self._of_item, path[len(ITEMS) : -len(OF_ITEM)], scope, send)
        elif path.startswith(ITEMS) and path.endswith(AFTER_ITEM):
            await self._get(self._after_item, path[len(ITEMS) : -len(AFTER_ITEM)], scope, send)
        elif path == POPULAR:
            await self._get(self._popular, "", scope, send)
        elif path in self._posts:
            await self._post(self._posts[path], scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def _get(self, route: tuple[Get, Tally], id_: str, scope: Scope, send: Send) -> None:
        started = time.perf_counter()
        answer, tally = route
        request_id, etags = self._ids.with_etags(scope["headers"])
        # Taken once; all that is read below is read before the first await.
        opened = self._current.open
        method = scope["method"]
        status, headers = 200, [JSON, REVALIDATE, (b"etag", opened.etag)]
        try:
            if method not in {"GET", "HEAD"}:
                raise WrongMethod("GET, HEAD")
            body = answer(opened, request_id, id_, scope["query_string"])
            if etags and has_etag(etags, opened.etag):
                status, body = 304, b""
        except Exception as error:
            status, body, headers = failed(error, opened, request_id, scope)
        await respond(send, status, headers, body, request_id, with_body=method != "HEAD")
        tally.add(status, time.perf_counter() - started)

    async def _post(
        self, route: tuple[Post, Tally], scope: Scope, receive: Receive, send: Send
    ) -> None:
        started = time.perf_counter()
        answer, tally = route
        request_id = self._ids.of(scope["headers"])
        sent = await body_of(receive)
        if sent is None:
            return
        opened = self._current.open
        status, headers = 200, [JSON]
        try:
            if scope["method"] != "POST":
                raise WrongMethod("POST")
            body = answer(opened, request_id, sent, scope)
        except Exception as error:
            status, body, headers = failed(error, opened, request_id, scope)
        await respond(send, status, headers, body, request_id, with_body=scope["method"] != "HEAD")
        tally.add(status, time.perf_counter() - started)

    def _user_list(self, opened: Open, request_id: bytes, user_id: str, query: bytes) -> bytes:
        n, filters = read_query(query, self._default_n, opened.store.longest("users"))
        found = self._answers.of_user(opened, user_id, n, filters)
        return self._list(opened, request_id, b'"user_id":' + as_json(user_id), found)

    def _shelf(self, opened: Open, request_id: bytes, item_id: str, query: bytes) -> bytes:
        n, filters = read_query(query, self._default_n, opened.store.longest("items"))
        found = self._answers.similar(opened, item_id, n, filters)
        return self._list(opened, request_id, b'"item_id":' + as_json(item_id), found)

    def _also_bought(self, opened: Open, request_id: bytes, item_id: str, query: bytes) -> bytes:
        longest = opened.store.longest("also_bought")
        if not longest:  # then no n would be right
            raise NotFound(
                f"release {opened.store.release_id} has no lists of what is also bought: it was made before there were "
                "any, or nothing is known to be taken up after anything"
            )
        n, filters = read_query(query, self._default_n, longest)
        found = self._answers.also_bought(opened, item_id, n, filters)
        return self._list(opened, request_id, b'"item_id":' + as_json(item_id), found)

    def _popular_list(self, opened: Open, request_id: bytes, _: str, query: bytes) -> bytes:
        longest = opened.store.longest("segments")
        n, filters = read_query(query, self._default_n, longest, also=("segment",))
        segment = dict(parameters(query)).get("segment", WHOLE_SHOP)
        found = self._answers.popular(opened, segment, n, filters)
        used = WHOLE_SHOP if found.fallback else segment
        return self._list(opened, request_id, b'"segment":' + as_json(used), found)

    def _session(self, opened: Open, request_id: bytes, sent: bytes, scope: Scope) -> bytes:
        wish = session_wish(sent, self._default_n, opened.store.longest("users"))
        scope[USER_ID] = wish.user_id
        found = self._sessions.of(opened, wish)
        asked = b"null" if wish.user_id is None else as_json(wish.user_id)
        return self._list(opened, request_id, b'"user_id":' + asked, found)

    def _batch(self, opened: Open, request_id: bytes, sent: bytes, _: Scope) -> bytes:
        """The users' lists in the order asked for."""
        longest = opened.store.longest("users")
        wish = batch_wish(sent, self._default_n, longest, self._settings.batch_limit)
        sources, items = self._lists_of(opened, wish)
        parts = batch_parts(wish.user_ids, sources, items)
        return b"".join((opened.prefix, request_id, b'","users":[', *parts, b"]}]}"))

    def _lists_of(self, opened: Open, wish: BatchWish) -> tuple[list[bytes], list[Bytes]]:
        """Source and items for each user; what is their own is read in one go."""
        values = opened.store.get_many("users", wish.user_ids)
        sources = [PERSONAL] * len(values)
        items: list[Bytes] = [b""] * len(values)
        if not opened.blocked:
            items = first_of_each(values, wish.n)
        own = len(values)
        if not all(items):
            for place in [place for place, found in enumerate(items) if not found]:
                found = self._answers.of_value(opened, values[place], wish.n, None)
                self._count(found)
                sources[place], items[place] = found.source.encode(), found.items
                own -= 1
        self._metrics.lookups["users"]["hit"] += own
        self._metrics.answers["personal"] += own
        return sources, items

    def _list(self, opened: Open, request_id: bytes, asked: bytes, found: Found) -> bytes:
        self._count(found)
        return b"".join(
            (
                opened.prefix, request_id, b'",', asked, b',"source":"', found.source.encode(),
                b'","items":[', found.items, b"]}",
            )
        )  # fmt: skip

    def _count(self, found: Found) -> None:
        self._metrics.answers[found.source] += 1
        if found.fallback:
            self._metrics.fallbacks[found.fallback] += 1


async def respond(
    send: Send,
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    request_id: bytes,
    *,
    with_body: bool,
) -> None:
    headers.append((b"x-request-id", request_id))
    if status != NOT_MODIFIED:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body if with_body else b""})


def failed(
    error: Exception, opened: Open, request_id: bytes, scope: Scope
) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """What a client is told: what is wrong with its request, or that the fault is ours; never a stack trace."""
    headers = [JSON]
    if isinstance(error, BadRequest):
        status, message = error.status, str(error)
        if isinstance(error, WrongMethod):
            headers.append((b"allow", error.allowed.encode()))
    else:
        status, message = 500, INTERNAL_ERROR
        route, _ = route_of(scope["path"])  # the path itself may name a customer
        log.error("request_failed", request_id=request_id.decode(), route=route, exc_info=error)
    return status, error_body(opened, request_id, message), headers


def has_etag(asked: bytes, etag: bytes) -> bool:
    """If-None-Match: compared weakly, as RFC 9110 wants it."""
    mine = etag.removeprefix(b"W/")
    return any(one.strip().removeprefix(b"W/") in {mine, b"*"} for one in asked.split(b","))


def as_json(text: str) -> bytes:
    """A JSON string; a path may hold what is not Unicode, which orjson refuses."""
    try:
        return orjson.dumps(text)
    except TypeError:
        return json.dumps(text).encode()


def batch_parts(
    user_ids: Sequence[str], sources: Sequence[bytes], items: Sequence[Bytes]
) -> list[Bytes]:
    """The users of a batch's answer, to be joined, but for what ends the last of them.

    Column by column: what Python does for every user is what a large batch costs.
    """
    users = len(user_ids)
    parts: list[Bytes] = [b""] * (6 * users)
    parts[0::6] = [b']},{"user_id":"'] * users
    parts[1::6] = json_insides(user_ids)
    parts[2::6] = [b'","source":"'] * users
    parts[3::6] = sources
    parts[4::6] = [b'","items":['] * users
    parts[5::6] = items
    parts[0] = b'{"user_id":"'
    return parts


def json_insides(texts: Sequence[str]) -> list[bytes]:
    """What stands between the quotes of each as a JSON string."""
    found = orjson.dumps(texts)
    if b"\\" in found:
        return [orjson.dumps(text)[1:-1] for text in texts]
    return found[2:-2].split(b'","')  # nothing is escaped, so a quote ends a string


def error_body(opened: Open, request_id: bytes, message: str) -> bytes:
    return opened.prefix + request_id + b'","error":' + as_json(message) + b"}"
