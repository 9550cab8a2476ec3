"""The bytes of one stored list: end offsets, then JSON, so that the first n items are one slice.

``uint32 count | uint32 end[count] | item,item,item`` little-endian, where ``end[i]`` is the length of the
JSON of the first i + 1 items and an item is ``{"item_id":"85123A","score":3.25,"source":"model"}``.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import orjson

from recsys.errors import CorruptArtifact

Bytes = bytes | memoryview

WHOLE_SHOP = ""
"""The segment that everybody is of."""
CATEGORY_PATH = " > "
"""Between a category and the one below it."""

_UINT32 = struct.Struct("<I")
MAX_KEY_BYTES = 500
"""LMDB takes keys of up to 511 bytes; longer ids are stored by hash."""
_NOT_UTF8 = b"\xff"
"""Begins the keys that are no id's own bytes: the empty id, and hashes of long ones."""
_BETWEEN = "\0"
"""A character that ids hardly have."""
_SHOWN = 120
"""Characters of what a parser says that are repeated."""


@dataclass(frozen=True)
class Place:
    """One place of a list."""

    item_id: str
    score: float
    source: str


def key_of(id_: str) -> bytes:
    """The key that a user, an item, a segment or a category is stored under; ``lists._key`` is the same in Spark."""
    raw = id_.encode("utf-8", "surrogatepass")
    if not raw:
        return _NOT_UTF8
    return raw if len(raw) <= MAX_KEY_BYTES else _NOT_UTF8 + hashlib.sha256(raw).digest()


def keys_of(ids: Sequence[str]) -> list[bytes]:
    """``key_of`` of each; of ids of the usual kind in one go."""
    try:
        joined = _BETWEEN.join(ids).encode()
    except UnicodeEncodeError:  # half a surrogate pair, from a path that was no UTF-8
        return [key_of(id_) for id_ in ids]
    keys = joined.split(_BETWEEN.encode())
    if len(keys) == len(ids) and b"" not in keys and max(map(len, keys)) <= MAX_KEY_BYTES:
        return keys
    return [key_of(id_) for id_ in ids]


def length(value: Bytes) -> int:
    """Items in the list."""
    return int(_UINT32.unpack_from(value)[0])


def first(value: Bytes, n: int) -> Bytes:
    """JSON of the first ``n`` items, or of all where there are fewer; commas between, no brackets.

    A view into ``value``: nothing is copied before the answer is put together.
    """
    try:
        count, end = _count_and_end(n).unpack_from(value)
    except struct.error:  # fewer items than asked for, in a value too short to hold n ends
        count = end = 0
    if not 0 < n <= count:
        count = length(value)
        n = min(n, count)
        if n <= 0:
            return b""
        end = _UINT32.unpack_from(value, 4 * n)[0]
    start = 4 + 4 * count
    return value[start : start + end]


def first_of_each(values: Iterable[Bytes | None], n: int) -> list[Bytes]:
    """``first`` of each value; b"" where there is none. The usual case in line, as a batch has hundreds."""
    read = _count_and_end(n).unpack_from
    found: list[Bytes] = []
    add = found.append
    for value in values:
        if value is None:
            add(b"")
            continue
        try:
            count, end = read(value)
        except struct.error:
            count = end = 0
        if 0 < n <= count:
            start = 4 + 4 * count
            add(value[start : start + end])
        else:
            add(first(value, n))
    return found


def fragments(value: Bytes) -> Iterator[Bytes]:
    """JSON of each item, best first."""
    count = length(value)
    start = begin = 4 + 4 * count
    for end in struct.unpack_from(f"<{count}I", value, 4):
        yield value[begin : start + end]
        begin = start + end + 1  # the comma


def decode(value: Bytes, kind: str = "") -> list[Place]:
    """All items of the list; ``kind`` says in the message whose list it is.

    Raises:
        CorruptArtifact: the bytes are no stored list.
    """
    try:
        count = length(value)
        items = orjson.loads(b"".join((b"[", first(value, count), b"]")))
        places = [Place(item["item_id"], float(item["score"]), item["source"]) for item in items]
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise CorruptArtifact(_damaged(kind, f"{type(error).__name__}: {error}")) from None
    if len(places) != count:
        raise CorruptArtifact(_damaged(kind, f"it holds {len(places)} items and says {count}"))
    return places


def _damaged(kind: str, reason: str) -> str:
    of_kind = f" of {kind}" if kind else ""
    return (
        f"a stored list{of_kind} is damaged ({reason[:_SHOWN]}); "
        "publish its run date again, or roll back"
    )


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


@cache
def _count_and_end(n: int) -> struct.Struct:
    """Reads ``count`` and ``end[n - 1]`` in one go: the two numbers that a hit needs."""
    return struct.Struct(f"<I{max(4 * n - 4, 0)}xI")
