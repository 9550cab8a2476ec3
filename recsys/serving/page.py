"""The page for people at /: what a customer bought, what they are offered, and from which source.

The page asks the same route as every client for what is offered; here it gets what that route does not say.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recsys.serving.current import Current

PAGE = Path(__file__).with_name("page.html")
MOST_ITEMS = 200
"""Facts given at a time; the page asks for 20."""


def routes(current: Current) -> list[Route]:
    """The page and the data behind it."""
    html = PAGE.read_bytes()
    headers = {
        "content-security-policy": content_security_policy(html),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
    }

    async def page(_: Request) -> Response:
        return Response(html, media_type="text/html", headers=headers)

    async def customer(request: Request) -> Response:
        # Taken once: all of an answer is of one release.
        store = current.open.store
        value = store.get("bought", request.path_params["user_id"])
        bought = [] if value is None else orjson.loads(value)
        wanted = [event["item_id"] for event in bought] + items_in(request.scope["query_string"])
        facts = {item_id: store.get("facts", item_id) for item_id in wanted[:MOST_ITEMS]}
        known = {
            item_id: orjson.Fragment(bytes(fact))
            for item_id, fact in facts.items()
            if fact is not None
        }
        body = orjson.dumps({"release": store.release_id, "bought": bought, "facts": known})
        return Response(body, media_type="application/json", headers={"cache-control": "no-store"})

    return [Route("/", page), Route("/page/customers/{user_id:path}", customer)]


def items_in(query: bytes) -> list[str]:
    """The ``item=`` parameters."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace")
    return [value for name, value in pairs if name == "item"]


def content_security_policy(html: bytes) -> str:
    """This page's own script and style, by hash, and requests to this service alone: what an item's title or
    a customer's name holds is never run."""
    script, style = (
        base64.b64encode(hashlib.sha256(_inside(html, tag)).digest()).decode()
        for tag in (b"script", b"style")
    )
    return (
        f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _inside(html: bytes, tag: bytes) -> bytes:
    [content] = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    return bytes(content)
