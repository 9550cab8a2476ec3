"""Releases made in a moment, without Spark: the same snapshot, manifest and pointer as publish makes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import lmdb
import orjson

from recsys.config.places import PathsConfig
from recsys.records import Recipe, sha256_of, write_atomically
from recsys.release.manifest import (
    CodeVersion,
    ReleaseManifest,
    ReleaseModel,
    TableVersion,
    content_id,
)
from recsys.release.pointer import Pointer, read_pointer, release_folder, write_pointer
from recsys.release.snapshot import (
    CHECKED_FILES,
    CHECKSUMS_FILE,
    DATA_FILE,
    KINDS,
    KINDS_BY_FORMAT,
    LIST_KINDS,
    MANIFEST_FILE,
    META_KEY,
    Kind,
    Snapshot,
)
from recsys.release.snapshot_builder import SnapshotBuilder
from recsys.release.stored_list import Place, answer_hash, encode, key_of

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
ListsById = Mapping[str, Sequence[Place]]
Documents = Mapping[str, object]
"""JSON values by id."""


def places(*item_ids: str, source: str = "model") -> list[Place]:
    """A list with falling scores."""
    return [Place(item_id, float(len(item_ids) - n), source) for n, item_id in enumerate(item_ids)]


USERS: ListsById = {
    "ana": places("tea", "cup", "pot"),
    "bob": places("cup"),
    "a/b c": places("pot", "tea"),  # a slash and a space
    "王芳": places("tea"),  # not ASCII
    "nobody's": [],  # known, and nothing is left to offer
}
ITEMS: ListsById = {
    "tea": places("cup", "pot", source="similar"),
    "cup": [],
    "pot/1 é": places("tea"),
}
ALSO_BOUGHT: ListsById = {
    "tea": places("pot", "jug", "cup", source="also_bought"),
    "cup": [],
    "pot/1 é": places("cup", source="also_bought"),
}
SEGMENTS: ListsById = {
    "": places("cup", "tea", source="popular"),
    "France": places("pot", source="popular"),
}


CATEGORIES: ListsById = {
    "kitchen": places("pot", "cup", "jug", source="popular"),
    "kitchen > cups": places("cup", source="popular"),
    "garden": [],  # known, and sells nothing
}
FACTS: Documents = {
    "tea": {"title": "GREEN TEA", "category": "drinks", "price": 2.5},
    "cup": {"title": "WHITE CUP", "category": "kitchen > cups"},
    "pot": {"title": "TEAPOT, RED", "category": "kitchen"},
    "pot/1 é": {},  # nothing is known of it
}
BOUGHT: Documents = {
    "ana": [{"item_id": "cup", "event_type": "purchase", "date": "2024-05-31"}],
}


def make_release(
    paths: PathsConfig,
    run_date: date = date(2024, 6, 1),
    *,
    users: ListsById = USERS,
    items: ListsById = ITEMS,
    also_bought: ListsById = ALSO_BOUGHT,
    segments: ListsById = SEGMENTS,
    categories: ListsById = CATEGORIES,
    facts: Documents = FACTS,
    bought: Documents = BOUGHT,
    model_as_of: date | None = None,
    live: bool = True,
) -> ReleaseManifest:
    """Write a whole release and make it live."""
    model = ReleaseModel(
        version="m1", as_of=model_as_of or run_date, hash="", age_days=0, reason="new and passed"
    )
    kinds: dict[Kind, Mapping[str, Any]] = {
        "users": users, "items": items, "also_bought": also_bought, "segments": segments,
        "categories": categories, "facts": facts, "bought": bought,
    }  # fmt: skip
    content = repr([sorted(values.items()) for values in kinds.values()])
    tables = {"top_n_lists": TableVersion(version=1, content_hash=content, rows=len(users))}
    release_id, digest = content_id(run_date, tables, model, Recipe(name="blend"))
    manifest = ReleaseManifest(
        release_id=release_id,
        run_date=run_date,
        shop="test",
        content_hash=digest,
        tables={"top_n_lists": TableVersion(version=1, content_hash="h", rows=len(users))},
        lists={"top_n": "top_n_lists"},
        model=model,
        recipe=Recipe(name="blend"),
        config_hash="c",
        code=CodeVersion(package="0", commit=""),
        golden_users={user_id: answer_hash(listed) for user_id, listed in users.items()},
        counts={kind: len(values) for kind, values in kinds.items()},
    )
    folder = release_folder(paths, release_id)
    write_release(folder, manifest, kinds)
    if live:
        make_live(paths, release_id)
    return manifest


def write_release(
    folder: Path, manifest: ReleaseManifest, kinds: Mapping[Kind, Mapping[str, Any]]
) -> None:
    with SnapshotBuilder(folder, manifest.release_id) as builder:
        for kind, values in kinds.items():
            write = encode if kind in LIST_KINDS else orjson.dumps
            builder.add(kind, [_chunk({id_: write(value) for id_, value in values.items()})])
        builder.finish()
    write_atomically(folder / MANIFEST_FILE, manifest.to_json().encode())
    write_checksums(folder)


def rewritten_as(folder: Path, format_: int) -> None:
    """The snapshot as software of another time would have written it."""
    kinds = KINDS_BY_FORMAT.get(format_, KINDS)
    with Snapshot(folder) as snapshot:
        meta = asdict(snapshot.meta) | {"format": format_}
        for figures in ("counts", "longest"):
            meta[figures] = {kind: n for kind, n in meta[figures].items() if kind in kinds}
    path = folder / DATA_FILE
    with (
        lmdb.open(str(path.parent), readonly=True, lock=False, max_dbs=9) as old,
        lmdb.open(str(folder / "other"), map_size=1 << 24, lock=False, max_dbs=9) as new,
    ):
        for kind in kinds:
            table, copy = old.open_db(kind.encode(), create=False), new.open_db(kind.encode())
            with old.begin(table) as rows, new.begin(copy, write=True) as into:
                into.cursor(copy).putmulti(list(rows.cursor(table)))
        with new.begin(write=True) as into:
            into.put(META_KEY, orjson.dumps(meta))
    os.replace(folder / "other" / "data.mdb", path)
    manifest = ReleaseManifest.read(folder)
    counts = {kind: manifest.counts[kind] for kind in kinds}
    (folder / MANIFEST_FILE).write_text(manifest.model_copy(update={"counts": counts}).to_json())
    write_checksums(folder)


def write_checksums(folder: Path) -> None:
    sums = "".join(f"{sha256_of(folder / name)}  {name}\n" for name in CHECKED_FILES)
    write_atomically(folder / CHECKSUMS_FILE, sums.encode())


def make_live(paths: PathsConfig, release_id: str) -> None:
    live = read_pointer(paths)
    previous = live.release_id if live else ""
    write_pointer(paths, Pointer(release_id=release_id, previous=previous, at=NOON))


def _chunk(values: Mapping[str, bytes]) -> tuple[list[bytes], list[bytes]]:
    pairs = sorted((key_of(id_), value) for id_, value in values.items())
    return [key for key, _ in pairs], [value for _, value in pairs]
