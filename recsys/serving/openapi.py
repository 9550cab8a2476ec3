"""The OpenAPI document; ``openapi.json`` beside it is the same, checked in for those who build clients."""

from __future__ import annotations

from typing import Any

import recsys
from recsys.serving.paths import BATCH, PATHS, POPULAR, SESSION
from recsys.serving.request import MOST_IDS

Schema = dict[str, Any]

_ITEM: Schema = {
    "type": "object",
    "required": ["item_id", "score", "source"],
    "properties": {
        "item_id": {"type": "string"},
        "score": {
            "type": "number",
            "description": "Higher is better; comparable within one list, among items of one source",
        },
        "source": {
            "type": "string",
            "description": "Why the item is there: model, similar, repeat, popular or also_bought",
        },
    },
}
_ITEMS: Schema = {"type": "array", "items": _ITEM}
_NAMES: Schema = {
    "release": {"type": "string", "description": "The release that the whole answer is from"},
    "request_id": {
        "type": "string",
        "description": "X-Request-ID of the request, or one made here",
    },
}
_ERROR: Schema = {
    "type": "object",
    "required": ["request_id", "error"],
    "properties": {**_NAMES, "error": {"type": "string"}},
}
_N: Schema = {
    "type": "integer",
    "minimum": 1,
    "description": "Length of the list, from 1 to the longest one stored",
}
_USER_OR_NULL: Schema = {"type": ["string", "null"]}


def document(batch_limit: int) -> Schema:
    """OpenAPI 3.1, as served at /openapi.json."""
    of_user, of_item, after_item, *_ = PATHS
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "recsys lookup service",
            "version": recsys.__version__,
            "description": "Recommendations of the published release, by user, item and segment. Where the service "
            "has an API key, every request but those to /healthz and /readyz brings it.",
        },
        "paths": {
            of_user: _list_path(
                "What to offer a user; the popular list for a user without one of their own",
                "user_id",
                _path_parameter("user_id", "The customer as the shop knows them, percent-encoded"),
                sources=["personal", "popular"],
            ),
            of_item: _list_path(
                "What goes with an item",
                "item_id",
                _path_parameter("item_id", "The item as the shop knows it, percent-encoded"),
                sources=["similar"],
                unknown="No such item, or category, in the release's catalogue",
            ),
            after_item: _list_path(
                "What customers take up after an item",
                "item_id",
                _path_parameter("item_id", "The item as the shop knows it, percent-encoded"),
                sources=["also_bought"],
                unknown="No such item, or category, in the release's catalogue; or it has no such lists at all",
            ),
            POPULAR: _list_path(
                "What sells, in a segment or (unknown segment, or none) in the whole shop",
                "segment",
                _query_parameter("segment", {"type": "string"}, "A segment, for example a country"),
                sources=["popular"],
            ),
            SESSION: _session_path(),
            BATCH: _batch_path(batch_limit),
            "/healthz": _probe_path("The process is alive; which release it serves"),
            "/readyz": _probe_path(
                "Ready; degraded while it serves another release than the live one, or does not know what is blocked"
            ),
            "/metrics": _plain_path("Prometheus metrics", "text/plain", refusals=_WITHOUT_KEY),
            "/openapi.json": _plain_path("This document"),
        },
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def _path_parameter(name: str, meaning: str) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": meaning,
    }


def _query_parameter(name: str, schema: Schema, meaning: str) -> Schema:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "schema": schema,
        "description": meaning,
    }


def _list_path(
    summary: str,
    asked: str,
    parameter: Schema,
    *,
    sources: list[str],
    unknown: str = "No such category in the release's catalogue",
) -> Schema:
    excluded = {"type": "array", "items": {"type": "string"}, "maxItems": MOST_IDS}
    parameters = [
        parameter,
        _query_parameter("n", _N, _N["description"]),
        _query_parameter("exclude", excluded, "An item to leave out; repeat it for several"),
        _query_parameter(
            "category",
            {"type": "string"},
            "Only items of this category and those below it; filled up from what sells there",
        ),
        {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "The ETag of an answer that is at hand",
        },
    ]
    listed = _response("The list, best first", _list_schema(asked, {"type": "string"}, sources))
    listed["headers"] = {
        "ETag": {
            "schema": {"type": "string"},
            "description": "Another one when the release, or what is blocked, changes",
        }
    }
    responses = {
        "200": listed,
        "304": {"description": "The answer at hand is still right"},
        "404": _response(unknown, _ERROR),
        "422": _response("A parameter that cannot be used; the message says which", _ERROR),
        **_GUARDED,
    }
    # HEAD is answered too, without a body; a document that named it would double every path.
    return {"get": {"summary": summary, "parameters": parameters, "responses": responses}}


def _list_schema(asked: str, asked_schema: Schema, sources: list[str]) -> Schema:
    return {
        "type": "object",
        "required": ["release", "request_id", asked, "source", "items"],
        "properties": {
            **_NAMES,
            asked: asked_schema,
            "source": {"type": "string", "enum": sources},
            "items": _ITEMS,
        },
    }


def _session_path() -> Schema:
    ids = {"type": "array", "items": {"type": "string"}, "maxItems": MOST_IDS}
    body = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "user_id": {**_USER_OR_NULL, "description": "The visitor, where they are known"},
            "recent": {
                **ids,
                "description": "What they looked at, oldest first; unknown items are ignored. Empty: the stored list",
            },
            "exclude": {**ids, "description": "Items to leave out, beside the recent ones"},
            "n": _N,
        },
    }
    answer = _list_schema("user_id", _USER_OR_NULL, ["session", "personal", "popular"])
    return _post(
        "What to offer a visitor after the clicks of the last minute, with or without an account",
        body,
        _response("The list, best first; none of the recent items", answer),
    )


def _batch_path(limit: int) -> Schema:
    body = {
        "type": "object",
        "additionalProperties": False,
        "required": ["user_ids"],
        "properties": {
            "user_ids": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "maxItems": limit,
            },
            "n": _N,
        },
    }
    one = _list_schema("user_id", {"type": "string"}, ["personal", "popular"])
    one = {
        "type": "object",
        "required": [name for name in one["required"] if name not in _NAMES],
        "properties": {
            name: schema for name, schema in one["properties"].items() if name not in _NAMES
        },
    }
    answer = {
        "type": "object",
        "required": ["release", "request_id", "users"],
        "properties": {**_NAMES, "users": {"type": "array", "items": one}},
    }
    return _post(
        "What to offer each of many users", body, _response("A list per user, as asked", answer)
    )


def _post(summary: str, body: Schema, answer: Schema) -> Schema:
    responses = {
        "200": answer,
        "400": _response("The body is not JSON", _ERROR),
        "408": _response("The body took too long to arrive", _ERROR),
        "413": _response("The body is too large", _ERROR),
        "422": _response("A key that cannot be used; the message says which", _ERROR),
        **_GUARDED,
    }
    request = {"required": True, "content": {"application/json": {"schema": body}}}
    return {"post": {"summary": summary, "requestBody": request, "responses": responses}}


def _response(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_WITHOUT_KEY: Schema = {"401": _response("The API key is missing or wrong", _ERROR)}
_GUARDED: Schema = {
    **_WITHOUT_KEY,
    "503": _response("Too many requests at a time; Retry-After says when to come back", _ERROR),
}


def _plain_path(
    summary: str, media_type: str = "application/json", *, refusals: Schema = _GUARDED
) -> Schema:
    answered = {"description": summary, "content": {media_type: {}}}
    return {"get": {"summary": summary, "responses": {"200": answered, **refusals}}}


def _probe_path(summary: str) -> Schema:
    """Answered to everybody, however much there is to do."""
    path = _plain_path(summary, refusals={})
    return {"get": {**path["get"], "security": []}}
