"""The list routes as plain ASGI endpoints: bytes from the snapshot, sliced, never parsed or encoded again."""

from __future__ import annotations

import json
import time

import orjson
from starlette.types import Receive, Scope, Send

from recsys.release.stored_list import first
from recsys.serving.current import Current, Open
from recsys.serving.metrics import Metrics
from recsys.serving.request import BadRequest, RequestIds, parameters, wanted_n

WHOLE_SHOP = ""
REQUEST_ID = "recsys.request_id"
"""Key of the ASGI scope under which a route that failed leaves the id it had given the request."""
_SHOWN = 80
"""Characters of an unknown id that are repeated to the client."""


class ListRoute:
    """What the routes that answer with a list share: the request id, metrics, errors, the response."""

    name = ""

    def __init__(self, current: Current, metrics: Metrics, ids: RequestIds, default_n: int) -> None:
        self._current = current
        self._ids = ids
        self._default_n = default_n
        self._requests = {
            status: metrics.requests.labels(self.name, status) for status in (200, 404, 422)
        }
        self._seconds = metrics.seconds.labels(self.name)
        self._answers = {
            source: metrics.answers.labels(source) for source in ("personal", "popular", "similar")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request_id = self._ids.of(scope["headers"])
        # Taken once; all that is read below is read before the first await.
        opened = self._current.open
        try:
            status, body = self.answer(scope, opened, request_id)
        except BadRequest as error:
            status, body = 422, error_body(opened, request_id, str(error))
        except Exception:
            scope[REQUEST_ID] = request_id
            raise
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._requests[status].inc()
        self._seconds.observe(time.perf_counter() - started)

    def answer(self, scope: Scope, opened: Open, request_id: bytes) -> tuple[int, bytes]:
        """Status and body. Raises BadRequest."""
        raise NotImplementedError

    def _list(
        self, opened: Open, request_id: bytes, asked: bytes, source: str, items: bytes
    ) -> tuple[int, bytes]:
        self._answers[source].inc()
        return 200, b"".join(
            (
                opened.prefix, request_id, b'",', asked, b',"source":"', source.encode(),
                b'","items":[', items, b"]}",
            )
        )  # fmt: skip


class UserRoute(ListRoute):
    """A user's list; the popular list for a user we have none for."""

    name = "recommendations"

    def answer(self, scope: Scope, opened: Open, request_id: bytes) -> tuple[int, bytes]:
        user_id = scope["path_params"]["user_id"]
        n = wanted_n(scope["query_string"], self._default_n, opened.store.longest("users"))
        asked = b'"user_id":' + as_json(user_id)
        value = opened.store.get("users", user_id)
        if value is not None and (items := first(value, n)):
            return self._list(opened, request_id, asked, "personal", items)
        value = opened.store.get("segments", WHOLE_SHOP)
        items = first(value, n) if value is not None else b""
        return self._list(opened, request_id, asked, "popular", items)


class ItemRoute(ListRoute):
    """The shelf beside an item."""

    name = "similar"

    def answer(self, scope: Scope, opened: Open, request_id: bytes) -> tuple[int, bytes]:
        item_id = scope["path_params"]["item_id"]
        n = wanted_n(scope["query_string"], self._default_n, opened.store.longest("items"))
        value = opened.store.get("items", item_id)
        if value is None:
            shown = repr(item_id[:_SHOWN]) + ("…" if len(item_id) > _SHOWN else "")
            message = (
                f"unknown item {shown}: not in the catalogue of release {opened.store.release_id}"
            )
            return 404, error_body(opened, request_id, message)
        asked = b'"item_id":' + as_json(item_id)
        return self._list(opened, request_id, asked, "similar", first(value, n))


class PopularRoute(ListRoute):
    """The popular list of a segment; of the whole shop for a segment we have none for."""

    name = "popular"

    def answer(self, scope: Scope, opened: Open, request_id: bytes) -> tuple[int, bytes]:
        query = scope["query_string"]
        n = wanted_n(query, self._default_n, opened.store.longest("segments"))
        segment = dict(parameters(query)).get("segment", WHOLE_SHOP)
        value = opened.store.get("segments", segment)
        if value is None:
            segment, value = WHOLE_SHOP, opened.store.get("segments", WHOLE_SHOP)
        items = first(value, n) if value is not None else b""
        return self._list(opened, request_id, b'"segment":' + as_json(segment), "popular", items)


def as_json(text: str) -> bytes:
    """A JSON string; a path may hold what is not Unicode, which orjson refuses."""
    try:
        return orjson.dumps(text)
    except TypeError:
        return json.dumps(text).encode()


def error_body(opened: Open, request_id: bytes, message: str) -> bytes:
    return opened.prefix + request_id + b'","error":' + as_json(message) + b"}"
