"""The lookup snapshot of a release: read-only LMDB, opened only after its checksums agree.

Imports little: ``check`` starts a process with it for every release.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Self

import lmdb
import orjson

from recsys.errors import CorruptArtifact
from recsys.release.stored_list import answer_hash, decode, key_of, keys_of

Kind = Literal["users", "items", "also_bought", "segments", "categories", "facts", "bought"]
LIST_KINDS: tuple[Kind, ...] = ("users", "items", "also_bought", "segments", "categories")
"""Kinds whose values are stored lists (``stored_list``). ``items``: what is similar to one."""
KINDS: tuple[Kind, ...] = (*LIST_KINDS, "facts", "bought")
"""``facts``: item -> {"title", "category", "price"}, what is null left out. ``bought``: user -> what they bought last,
[{"item_id", "event_type", "date"}], newest first. Both as JSON."""
FORMAT = 3
KINDS_BY_FORMAT: dict[int, tuple[Kind, ...]] = {
    1: ("users", "items", "segments"),
    2: ("users", "items", "segments", "categories", "facts", "bought"),
    FORMAT: KINDS,
}
"""What a service can read; kinds that a format has not are empty. It refuses a format that is not here."""
META_KEY = b"meta"
SNAPSHOT_FOLDER = "snapshot"
DATA_FILE = f"{SNAPSHOT_FOLDER}/data.mdb"
MANIFEST_FILE = "manifest.json"
CHECKSUMS_FILE = "SHA256SUMS"
"""As ``sha256sum`` writes it, so that ``sha256sum -c SHA256SUMS`` checks a release by hand."""
CARD_FILE = "model_card.md"
"""How the model did where it was measured; a release of lists that no measured model made has none."""
CHECKED_FILES = (DATA_FILE, MANIFEST_FILE)
"""What every release has."""


class Promised(NamedTuple):
    """What a release's manifest says of its snapshot."""

    release_id: str
    counts: Mapping[str, int]
    """Keys by kind."""
    golden_users: Mapping[str, str]
    """User -> hash of their list."""


@dataclass(frozen=True)
class SnapshotMeta:
    """What a snapshot says of itself."""

    release_id: str
    counts: dict[str, int]
    """Keys by kind."""
    longest: dict[str, int]
    """Length of the longest list by kind of list."""
    format: int = FORMAT

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return KINDS_BY_FORMAT[self.format]


class Snapshot:
    """One open snapshot. Values are valid until ``close``."""

    def __init__(self, folder: Path) -> None:
        """Open the snapshot of the release in ``folder``; nothing is checked beyond its own description.

        Raises:
            CorruptArtifact: no LMDB file, or of another format.
        """
        path = folder / SNAPSHOT_FOLDER
        try:
            self._env = lmdb.open(
                str(path),
                readonly=True,
                create=False,
                lock=False,
                max_dbs=len(KINDS),
                max_readers=1,
            )
        except lmdb.Error as error:
            raise CorruptArtifact(f"{path} cannot be opened as a snapshot: {error}") from None
        try:
            self._transaction = self._env.begin(buffers=True)
            self.meta = SnapshotMeta(**orjson.loads(self._transaction.get(META_KEY) or b"{}"))
            if self.meta.format not in KINDS_BY_FORMAT:
                raise CorruptArtifact(
                    f"{path} has format {self.meta.format}, this service reads "
                    f"{', '.join(map(str, KINDS_BY_FORMAT))}: bring its software up to date"
                )
            self._tables = {
                kind: self._env.open_db(kind.encode(), txn=self._transaction, create=False)
                for kind in self.meta.kinds
            }
            self._cursors = {
                kind: self._transaction.cursor(db=table) for kind, table in self._tables.items()
            }
        except (lmdb.Error, TypeError, ValueError) as error:
            self._env.close()
            raise CorruptArtifact(f"{path} is no snapshot of ours: {error}") from None
        except CorruptArtifact:
            self._env.close()
            raise

    @property
    def release_id(self) -> str:
        return self.meta.release_id

    def get(self, kind: Kind, id_: str) -> memoryview | None:
        """The value of a user, an item, a segment or a category, or None; a view into the file."""
        cursor = self._cursors.get(kind)
        return None if cursor is None else cursor.get(key_of(id_))

    def get_many(self, kind: Kind, ids: Sequence[str]) -> list[memoryview | None]:
        """``get`` of each, in order."""
        cursor = self._cursors.get(kind)
        if cursor is None:
            return [None] * len(ids)
        return list(map(cursor.get, keys_of(ids)))

    def count(self, kind: Kind) -> int:
        return (
            int(self._transaction.stat(self._tables[kind])["entries"])
            if kind in self._tables
            else 0
        )

    def longest(self, kind: Kind) -> int:
        """Length of the longest list: the largest ``n`` that can be asked for."""
        return self.meta.longest.get(kind, 0)

    def sample(self, kind: Kind, rows: int) -> list[memoryview]:
        """The values of the first ``rows`` keys."""
        if kind not in self._tables:
            return []
        cursor = self._transaction.cursor(db=self._tables[kind])
        return [value for _, value in zip(range(rows), cursor.iternext(keys=False), strict=False)]

    def close(self) -> None:
        self._transaction.abort()
        self._env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_sums(folder: Path) -> str:
    """The text of ``SHA256SUMS``, bytes that are no text among it marked as such.

    Raises:
        CorruptArtifact: there is none.
    """
    try:
        return (folder / CHECKSUMS_FILE).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        raise CorruptArtifact(f"release {folder.name} has no {folder / CHECKSUMS_FILE}") from None


def checksums(sums: str) -> dict[str, str]:
    """File -> sha256, of the files that a release may have and this text of ``SHA256SUMS`` names."""
    lines = (line.partition("  ") for line in sums.splitlines())
    said = {name: digest for digest, _, name in lines}
    return {name: said[name] for name in (*CHECKED_FILES, CARD_FILE) if name in said}


def files_of(sums: str) -> tuple[str, ...]:
    """What a release with these checksums has."""
    return tuple(dict.fromkeys((*CHECKED_FILES, *checksums(sums))))


def verify_checksums(folder: Path) -> int:
    """Compare every file with ``SHA256SUMS``; returns how many there are.

    Nothing is served from the model card, so a release that lost it (one that older software pulled has none) is whole.

    Raises:
        CorruptArtifact: a file that is needed is missing, or a checksum is off.
    """
    sums = read_sums(folder)
    wanted, checked = checksums(sums), 0
    for name in files_of(sums):
        try:
            with open(folder / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            if name not in CHECKED_FILES:
                continue
            raise CorruptArtifact(f"release {folder.name} has no {folder / name}") from None
        if found != wanted.get(name):
            raise CorruptArtifact(
                f"checksum of {folder / name} is off: found {found[:16]}…, {CHECKSUMS_FILE} says "
                f"{wanted.get(name, 'nothing')[:16]}…; publish its run date again, or roll back"
            )
        checked += 1
    return checked


def verify_content(snapshot: Snapshot, promised: Promised) -> None:
    """Compare a snapshot with its manifest: name, counts, the golden users' answers.

    Raises:
        CorruptArtifact: they differ; the message names the first difference.
    """
    if snapshot.release_id != promised.release_id:
        raise CorruptArtifact(
            f"the snapshot says it is {snapshot.release_id}, its manifest {promised.release_id}"
        )
    for kind in snapshot.meta.kinds:
        found, wanted = snapshot.count(kind), promised.counts.get(kind, 0)
        if found != wanted:
            raise CorruptArtifact(
                f"snapshot of {promised.release_id} has {found} {kind}, its manifest says {wanted}"
            )
    for user_id, expected in promised.golden_users.items():
        value = snapshot.get("users", user_id)
        answer = "no answer" if value is None else answer_hash(decode(value, "users"))
        if answer != expected:
            raise CorruptArtifact(
                f"snapshot of {promised.release_id} answers golden user {user_id!r} with {answer}, "
                f"the table with {expected}"
            )
