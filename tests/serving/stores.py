"""A store in memory, and a source of releases made of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import orjson

from recsys.blocked import Blocked, Known
from recsys.errors import CorruptArtifact, MissingInput, RecsysError
from recsys.release.pointer import Pointer
from recsys.release.pull_state import PullState
from recsys.release.snapshot import Kind
from recsys.release.stored_list import encode
from tests.release.making import (
    ALSO_BOUGHT,
    BOUGHT,
    CATEGORIES,
    FACTS,
    ITEMS,
    SEGMENTS,
    USERS,
    Documents,
    ListsById,
)

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
RELEASE = "2024-06-01-aaaa"
NEWER = "2024-06-02-bbbb"


class MemoryStore:
    """Values in dictionaries."""

    def __init__(
        self,
        release_id: str = RELEASE,
        users: ListsById = USERS,
        items: ListsById = ITEMS,
        segments: ListsById = SEGMENTS,
        categories: ListsById = CATEGORIES,
    ) -> None:
        self.release_id = release_id
        self.closed = False
        kinds: dict[Kind, ListsById] = {
            "users": users, "items": items, "also_bought": ALSO_BOUGHT, "segments": segments,
            "categories": categories,
        }  # fmt: skip
        self._values = {
            kind: {id_: encode(listed) for id_, listed in lists.items()}
            for kind, lists in kinds.items()
        }
        documents: dict[Kind, Documents] = {"facts": FACTS, "bought": BOUGHT}
        for kind, values in documents.items():
            self._values[kind] = {id_: orjson.dumps(value) for id_, value in values.items()}
        self._longest = {
            kind: max(map(len, lists.values()), default=0) for kind, lists in kinds.items()
        }

    def get(self, kind: Kind, id_: str) -> bytes | None:
        return self._values[kind].get(id_)

    def get_many(self, kind: Kind, ids: Sequence[str]) -> list[bytes | None]:
        return [self.get(kind, id_) for id_ in ids]

    def longest(self, kind: Kind) -> int:
        return self._longest[kind]

    def count(self, kind: Kind) -> int:
        return len(self._values[kind])

    def close(self) -> None:
        self.closed = True


class MemoryReleases:
    """Releases that tests publish, damage and repair by hand."""

    def __init__(self, *stores: MemoryStore) -> None:
        self.stores = {store.release_id: store for store in stores}
        self.damaged: set[str] = set()
        self.opened: list[str] = []
        self.off: Known | RecsysError = Known({})
        self.pointer: Pointer | None = None
        self.pulls: PullState | None = None
        self.urgent: list[bool] = []
        self._moves = 0
        if stores:
            self.publish(stores[0].release_id)

    def publish(self, release_id: str, *, pinned: bool = False) -> None:
        previous = self.pointer.release_id if self.pointer else ""
        self._moves += 1
        at = NOON + timedelta(minutes=self._moves)
        self.pointer = Pointer(release_id=release_id, previous=previous, pinned=pinned, at=at)

    def pulled(self) -> PullState | None:
        return self.pulls

    def live(self) -> Pointer:
        if self.pointer is None:
            raise MissingInput("no release is live")
        return self.pointer

    def open(self, release_id: str) -> MemoryStore:
        self.opened.append(release_id)
        if release_id in self.damaged:
            raise CorruptArtifact(f"checksum of {release_id} is off")
        return self.stores[release_id]

    async def open_aside(self, release_id: str, *, urgent: bool) -> MemoryStore:
        self.urgent.append(urgent)
        return self.open(release_id)

    def block(self, *item_ids: str, problem: str = "") -> None:
        """Exactly these are off; with ``problem`` that is what the copy says."""
        items = {item_id: Blocked(reason="recalled", at=NOON) for item_id in item_ids}
        self.off = Known(items, problem)

    def blocked(self) -> Known:
        if isinstance(self.off, RecsysError):
            raise self.off
        return self.off
