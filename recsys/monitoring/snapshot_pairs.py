"""The snapshot's keys and values in bulk; a damaged snapshot is read by a process of its own.

LMDB trusts its pages: a wrong byte in one of its trees can end the process that walks it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from recsys.errors import CorruptArtifact
from recsys.monitoring.fingerprints import Bytes, Fingerprint, bucket_of, digest_of
from recsys.release.snapshot import KINDS, SNAPSHOT_FOLDER, Kind

Ask = Callable[..., Any]
"""(function, folder, …): runs one of the functions of this module."""


def pairs(folder: Path, kind: Kind) -> Iterator[tuple[bytes, Bytes]]:
    """Every key and value, keys ascending; a value is valid until the next one is asked for.

    Raises:
        CorruptArtifact: LMDB cannot read it.
    """
    path = folder / SNAPSHOT_FOLDER
    try:
        with (
            lmdb.open(str(path), readonly=True, create=False, lock=False, max_dbs=len(KINDS)) as env,
            env.begin(buffers=True) as transaction,
        ):  # fmt: skip
            table = env.open_db(kind.encode(), txn=transaction, create=False)
            for key, value in transaction.cursor(db=table):
                yield bytes(key), value
    except lmdb.Error as error:
        raise CorruptArtifact(f"{path} cannot be read: {error}") from None


def fingerprint(folder: Path, kind: Kind) -> Fingerprint:
    """Of everything of one kind."""
    found = Fingerprint()
    found.add(pairs(folder, kind))
    return found


def digests_in(folder: Path, kind: Kind, buckets: frozenset[int]) -> dict[bytes, int]:
    """The hash of each value of some buckets, by key."""
    return {
        key: digest_of(key, value)
        for key, value in pairs(folder, kind)
        if bucket_of(key) in buckets
    }


def values_of(folder: Path, kind: Kind, keys: frozenset[bytes]) -> dict[bytes, bytes]:
    """The values of a few keys."""
    return {key: bytes(value) for key, value in pairs(folder, kind) if key in keys}


@contextmanager
def asking(*, is_whole: bool) -> Iterator[Ask]:
    """How to call the functions above: here, or where a crash harms nobody."""
    if is_whole:
        yield lambda function, *arguments: function(*arguments)
        return
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:

        def ask(function: Ask, *arguments: Any) -> Any:
            try:
                return pool.submit(function, *arguments).result()
            except BrokenProcessPool:
                raise CorruptArtifact(
                    f"{arguments[0]}: the process that read its snapshot crashed"
                ) from None

        yield ask
