"""The service over a small shop in memory, run by granian: `python -m tests.serving.operations.shop`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import orjson

from recsys.blocked import Known
from recsys.config.serving import ServingConfig
from recsys.logs import configure_logs
from recsys.release.pointer import Pointer
from recsys.release.snapshot import Kind
from recsys.release.stored_list import Place, encode
from recsys.serving.app import create_app
from recsys.serving.server import http_server

RELEASE = "2024-06-01-5f2c9a71d04e"
HOSTILE = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
"""An item's title and a customer's id, as somebody might have typed them into the shop."""

FACTS: Mapping[str, Mapping[str, object]] = {
    "22423": {"title": "Regency cakestand, 3 tiers", "category": "kitchen", "price": 12.75},
    "22697": {"title": "Green Regency teacup and saucer", "category": "kitchen", "price": 2.95},
    "22699": {"title": "Roses Regency teacup and saucer", "category": "kitchen", "price": 2.95},
    "22720": {"title": "Set of 3 cake tins, pantry design", "category": "kitchen", "price": 4.95},
    "23084": {"title": "Rabbit night light", "category": "home", "price": 2.08},
    "47566": {"title": "Party bunting", "category": "home", "price": 4.95},
    "84879": {"title": "Assorted colour bird ornament", "category": "home", "price": 1.69},
    "85099B": {"title": "Jumbo bag, red retrospot", "category": "bags", "price": 2.08},
    "85123A": {"title": "White hanging heart T-light holder", "category": "home", "price": 2.95},
    "POST": {"title": "Postage"},
    "hostile": {"title": HOSTILE, "category": HOSTILE},
}
BOUGHT = {
    "13085": [
        ("22423", "purchase", "2024-05-30"),
        ("22697", "purchase", "2024-05-30"),
        ("22699", "cart", "2024-05-30"),
        ("85099B", "purchase", "2024-05-12"),
        ("84879", "view", "2024-05-12"),
        ("POST", "purchase", "2024-05-12"),
        ("nowhere", "purchase", "2024-04-02"),
    ],
    HOSTILE: [("hostile", "purchase", "2024-05-30")],
}
USERS = {
    "13085": [
        Place("22699", 3.25, "model"),
        Place("22720", 2.5, "similar"),
        Place("85099B", 2.125, "repeat"),
        Place("47566", 1.5, "model"),
        Place("23084", 0.75, "popular"),
    ],
    HOSTILE: [Place("hostile", 1.0, "model")],
    "nobody's": [],
}
POPULAR = [Place("85123A", 0.031, "popular"), Place("47566", 0.025, "popular")]
AFTER = [Place("22699", 3.0, "also_bought")]


class ShopStore:
    """``Store``, in dictionaries."""

    release_id = RELEASE

    def __init__(self) -> None:
        similar = [Place("22697", 2.0, "similar"), Place("22699", 1.5, "similar")]
        self._lists: dict[str, Mapping[str, list[Place]]] = {
            "users": USERS,
            "items": dict.fromkeys(FACTS, similar),
            "also_bought": dict.fromkeys(FACTS, AFTER),
            "segments": {"": POPULAR, "France": POPULAR[:1]},
            "categories": {"kitchen": similar, "home": POPULAR},
        }
        self._values: dict[str, dict[str, bytes]] = {
            kind: {id_: encode(listed) for id_, listed in lists.items()}
            for kind, lists in self._lists.items()
        }
        self._values["facts"] = {item_id: orjson.dumps(facts) for item_id, facts in FACTS.items()}
        names = ("item_id", "event_type", "date")
        self._values["bought"] = {
            user_id: orjson.dumps([dict(zip(names, event, strict=True)) for event in events])
            for user_id, events in BOUGHT.items()
        }

    def get(self, kind: Kind, id_: str) -> bytes | None:
        return self._values[kind].get(id_)

    def get_many(self, kind: Kind, ids: Sequence[str]) -> list[bytes | None]:
        return [self.get(kind, id_) for id_ in ids]

    def longest(self, kind: Kind) -> int:
        return max(map(len, self._lists[kind].values()))

    def count(self, kind: Kind) -> int:
        return len(self._values[kind])

    def close(self) -> None:
        pass


class ShopReleases:
    """``Releases``, of which there is one."""

    def live(self) -> Pointer:
        return Pointer(release_id=RELEASE, at=datetime(2024, 6, 1, tzinfo=UTC))

    def open(self, release_id: str) -> ShopStore:
        assert release_id == RELEASE
        return ShopStore()

    async def open_aside(self, release_id: str, *, urgent: bool) -> ShopStore:
        return self.open(release_id)

    def pulled(self) -> None:
        return None

    def blocked(self) -> Known:
        return Known({})


def main(settings: str) -> None:
    configure_logs(job="serve")
    serving = ServingConfig.model_validate_json(settings)
    load = partial(create_app, serving, ShopReleases())
    http_server(serving).serve(target_loader=load, wrap_loader=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
