"""Write a snapshot: keys in ascending order, appended page by page, synced before anyone may see it."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb
import orjson

from recsys.errors import ContractError
from recsys.failpoints import failpoint
from recsys.release.snapshot import (
    KINDS,
    LIST_KINDS,
    META_KEY,
    SNAPSHOT_FOLDER,
    Kind,
    SnapshotMeta,
)
from recsys.release.stored_list import Bytes, length

Chunk = tuple[Sequence[bytes], Sequence[Bytes]]
"""Keys and values, the same number of each."""

SMALLEST_MAP_BYTES = 1 << 24
PAGE_BYTES = 4096
FREE_BYTES = 1 << 20
"""A disk with less than this left is full."""
SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


class SnapshotBuilder:
    """Builds one snapshot in ``folder``; ``finish`` makes it durable.

    Memory: one chunk, and the pages of one transaction.
    """

    def __init__(self, folder: Path, release_id: str) -> None:
        path = folder / SNAPSHOT_FOLDER
        path.mkdir(parents=True)
        self._folder, self._release_id = folder, release_id
        self._map_bytes = SMALLEST_MAP_BYTES
        self._env = lmdb.open(
            str(path), map_size=self._map_bytes, max_dbs=len(KINDS), lock=False, sync=False, metasync=False
        )  # fmt: skip
        self._file = os.open(path / "data.mdb", os.O_RDONLY)
        self._tables = {kind: self._env.open_db(kind.encode()) for kind in KINDS}
        self._counts: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._longest: dict[str, int] = dict.fromkeys(LIST_KINDS, 0)

    def add(self, kind: Kind, chunks: Iterable[Chunk]) -> int:
        """Append ``chunks``, whose keys ascend over all of them; returns how many keys were added.

        Raises:
            ContractError: a key is not above the one before it.
            OSError: the disk is full.
        """
        added = 0
        for keys, values in chunks:
            self._make_room(sum(map(len, keys)) + sum(map(len, values)), len(keys))
            with self._writing(kind) as transaction:
                _, stored = transaction.cursor().putmulti(
                    zip(keys, values, strict=True), append=True, overwrite=False
                )
            if stored != len(keys):
                raise ContractError(
                    f"snapshot of {self._release_id}: {len(keys) - stored} of {len(keys)} {kind} "
                    "came twice or out of order"
                )
            start_writing_out(self._file)
            if kind in self._longest:
                self._longest[kind] = max(self._longest[kind], *map(length, values), 0)
            added += stored
        self._counts[kind] += added
        return added

    def finish(self) -> SnapshotMeta:
        """Write the description, sync everything to disk, close."""
        meta = SnapshotMeta(self._release_id, self._counts, self._longest)
        self._make_room(PAGE_BYTES, 1)
        with self._writing() as transaction:
            transaction.put(META_KEY, orjson.dumps(asdict(meta)))
        failpoint("snapshot:before-sync")
        self._env.sync(True)
        self._env.close()
        sync_folder(self._folder / SNAPSHOT_FOLDER)
        failpoint("snapshot:after-sync")
        return meta

    @contextmanager
    def _writing(self, kind: Kind | None = None) -> Iterator[lmdb.Transaction]:
        """A transaction. LMDB calls a write that a full disk cut short an I/O error; here it gets its name."""
        try:
            with self._env.begin(
                write=True, db=self._tables[kind] if kind else None
            ) as transaction:
                yield transaction
        except lmdb.Error as error:
            if shutil.disk_usage(self._folder).free > FREE_BYTES:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder)) from error

    def _make_room(self, payload_bytes: int, rows: int) -> None:
        """LMDB writes within a map of fixed size; grow it before a chunk that might not fit."""
        used = (self._env.info()["last_pgno"] + 1) * PAGE_BYTES
        needed = used + 2 * payload_bytes + 2 * rows * PAGE_BYTES + SMALLEST_MAP_BYTES
        if needed > self._map_bytes:
            self._map_bytes = max(needed, 2 * self._map_bytes)
            self._env.set_mapsize(self._map_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._env.close()
        os.close(self._file)


def start_writing_out(descriptor: int) -> None:
    """Have the kernel begin with what it holds of a file, so that the disk works while the next chunk is made.

    A hint, which some file systems do not take: what is durable is decided by the sync at the end alone.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, 0, 0, SYNC_FILE_RANGE_WRITE)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
