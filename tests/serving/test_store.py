"""What every store promises. Add an implementation to STORES and it inherits the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recsys.config.places import PathsConfig
from recsys.errors import MissingInput
from recsys.release.snapshot import Kind
from recsys.release.stored_list import decode
from recsys.serving.store import PublishedReleases, Store
from tests.release.making import ALSO_BOUGHT, ITEMS, SEGMENTS, USERS, make_release
from tests.serving.stores import MemoryStore


def lmdb_store(folder: Path) -> Store:
    paths = PathsConfig(root=str(folder))
    make_release(paths)
    releases = PublishedReleases(paths)
    return releases.open(releases.live().release_id)


STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(),
    "lmdb": lmdb_store,
}


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = request.param(tmp_path)
    yield made
    made.close()


def test_every_list_is_found_under_its_own_id(store: Store) -> None:
    kinds = {"users": USERS, "items": ITEMS, "also_bought": ALSO_BOUGHT, "segments": SEGMENTS}
    for kind, lists in kinds.items():
        for id_, listed in lists.items():
            value = store.get(kind, id_)  # type: ignore[arg-type]
            assert value is not None
            assert decode(value) == listed


@pytest.mark.parametrize("id_", ["zed", "Ana", "ana ", "x" * 600, "a\0b", "\udcff", "-"])
def test_ids_are_exact_and_unknown_ones_are_none(store: Store, id_: str) -> None:
    assert store.get("users", id_) is None
    assert store.get("items", id_) is None


def test_the_longest_list_bounds_n(store: Store) -> None:
    kinds: list[Kind] = ["users", "items", "also_bought", "segments"]
    assert [store.longest(kind) for kind in kinds] == [3, 2, 3, 2]
    assert [store.count(kind) for kind in kinds] == [5, 3, 3, 2]


def test_a_release_is_named_by_run_date(store: Store) -> None:
    assert store.release_id.startswith("2024-06-01-")


def test_without_a_release_the_way_to_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="run `make demo`"):
        PublishedReleases(PathsConfig(root=str(tmp_path))).live()
