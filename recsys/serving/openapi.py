"""The OpenAPI document of the service."""

from __future__ import annotations

from typing import Any

import recsys

Schema = dict[str, Any]

_ITEM: Schema = {
    "type": "object",
    "required": ["item_id", "score", "source"],
    "properties": {
        "item_id": {"type": "string"},
        "score": {
            "type": "number",
            "description": "Higher is better; comparable within one list only",
        },
        "source": {
            "type": "string",
            "description": "Why the item is there: model, similar, repeat or popular",
        },
    },
}
_NAMES: Schema = {
    "release": {"type": "string", "description": "The release that the whole answer is from"},
    "request_id": {
        "type": "string",
        "description": "X-Request-ID of the request, or one made here",
    },
}
_ERROR: Schema = {
    "type": "object",
    "required": ["release", "request_id", "error"],
    "properties": {**_NAMES, "error": {"type": "string"}},
}


def document() -> Schema:
    """OpenAPI 3.1, as served at /openapi.json."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "recsys lookup service",
            "version": recsys.__version__,
            "description": "Recommendations of the published release, by user, item and segment",
        },
        "paths": {
            "/v1/users/{user_id}/recommendations": _list_path(
                "What to offer a user; the popular list for a user without one of their own",
                "user_id",
                [
                    _path_parameter(
                        "user_id", "The customer as the shop knows them, percent-encoded"
                    )
                ],
                sources=["personal", "popular"],
            ),
            "/v1/items/{item_id}/similar": _list_path(
                "What goes with an item",
                "item_id",
                [_path_parameter("item_id", "The item as the shop knows it, percent-encoded")],
                sources=["similar"],
                unknown="No such item in the release's catalogue",
            ),
            "/v1/popular": _list_path(
                "What sells, in a segment or (unknown segment, or none) in the whole shop",
                "segment",
                [
                    {
                        "name": "segment",
                        "in": "query",
                        "required": False,
                        "schema": {"type": "string"},
                        "description": "A segment, for example a country",
                    }
                ],
                sources=["popular"],
            ),
            "/healthz": _plain_path("The process is alive; which release it serves"),
            "/readyz": _plain_path(
                "Ready; degraded while it serves another release than the live one"
            ),
            "/metrics": _plain_path("Prometheus metrics", "text/plain"),
            "/openapi.json": _plain_path("This document"),
        },
    }


def _path_parameter(name: str, meaning: str) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": meaning,
    }


def _list_path(
    summary: str, asked: str, parameters: list[Schema], *, sources: list[str], unknown: str = ""
) -> Schema:
    n = {
        "name": "n",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 1},
        "description": "Length of the list, from 1 to the longest one stored",
    }
    answer = {
        "type": "object",
        "required": ["release", "request_id", asked, "source", "items"],
        "properties": {
            **_NAMES,
            asked: {"type": "string"},
            "source": {"type": "string", "enum": sources},
            "items": {"type": "array", "items": _ITEM},
        },
    }
    responses = {
        "200": _response("The list, best first", answer),
        "422": _response("n is not a whole number of the range, which the message says", _ERROR),
    }
    if unknown:
        responses["404"] = _response(unknown, _ERROR)
    return {"get": {"summary": summary, "parameters": [*parameters, n], "responses": responses}}


def _response(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _plain_path(summary: str, media_type: str = "application/json") -> Schema:
    return {
        "get": {
            "summary": summary,
            "responses": {"200": {"description": summary, "content": {media_type: {}}}},
        }
    }
