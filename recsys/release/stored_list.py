"""The bytes of one stored list: end offsets, then JSON, so that the first n items are one slice.

``uint32 count | uint32 end[count] | item,item,item`` little-endian, where ``end[i]`` is the length of the
JSON of the first i + 1 items and an item is ``{"item_id":"85123A","score":3.25,"source":"model"}``.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

_UINT32 = struct.Struct("<I")
MAX_KEY_BYTES = 500
"""LMDB takes keys of up to 511 bytes; longer ids are stored by hash."""
_NOT_UTF8 = b"\xff"
"""Begins the keys that are no id's own bytes: the empty id, and hashes of long ones."""


@dataclass(frozen=True)
class Place:
    """One place of a list."""

    item_id: str
    score: float
    source: str


def key_of(id_: str) -> bytes:
    """The key that a user, an item or a segment is stored under; ``lists._key`` is the same in Spark."""
    raw = id_.encode("utf-8", "surrogatepass")
    if not raw:
        return _NOT_UTF8
    return raw if len(raw) <= MAX_KEY_BYTES else _NOT_UTF8 + hashlib.sha256(raw).digest()


def length(value: bytes | memoryview) -> int:
    """Items in the list."""
    return int(_UINT32.unpack_from(value)[0])


def first(value: bytes | memoryview, n: int) -> bytes:
    """JSON of the first ``n`` items, or of all where there are fewer; commas between, no brackets."""
    count = length(value)
    n = min(n, count)
    if n <= 0:
        return b""
    start = 4 + 4 * count
    (end,) = _UINT32.unpack_from(value, 4 * n)
    return bytes(value[start : start + end])


def decode(value: bytes | memoryview) -> list[Place]:
    """All items of the list."""
    items = orjson.loads(b"[" + first(value, length(value)) + b"]")
    return [Place(item["item_id"], float(item["score"]), item["source"]) for item in items]


def encode(places: Iterable[Place]) -> bytes:
    """The bytes of one list; ``encoding.encode_lists`` does the same for many at once."""
    fragments = [
        orjson.dumps({"item_id": place.item_id, "score": place.score, "source": place.source})
        for place in places
    ]
    ends, end = [], -1
    for fragment in fragments:
        end += len(fragment) + 1
        ends.append(end)
    return struct.pack(f"<{1 + len(ends)}I", len(ends), *ends) + b",".join(fragments)


def answer_hash(places: Iterable[Place]) -> str:
    """Hash of what a user is offered; the same from the table's rows and from the snapshot's JSON."""
    digest = hashlib.sha256()
    for place in places:
        score = struct.pack("<f", place.score + 0.0)  # -0.0 is 0.0
        digest.update(b"\0".join((place.item_id.encode(), score, place.source.encode())))
        digest.update(b"\n")
    return digest.hexdigest()[:16]
