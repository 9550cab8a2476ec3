"""``blocked.json`` beside the pointer: the items that the person on call took off, before the next release does.

A small file, so that every lookup host can look at it every other second; scoring reads it too, and leaves the
same items out of the lists that it makes. Nobody remembers what was in a file that is damaged or gone, and without
it recalled items are on sale again, so a copy lies beside it and holds wherever the file cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from pydantic import ValidationError

from recsys.config.base import Config
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError, CorruptArtifact
from recsys.locks import exclusive
from recsys.records import write_atomically

log = structlog.get_logger()

BLOCKED_FILE = "blocked.json"
COPY_FILE = "blocked.copy.json"
"""The last whole one."""


class Blocked(Config):
    """Why an item is off, and since when."""

    reason: str
    at: datetime
    """UTC."""


class _File(Config):
    items: dict[str, Blocked] = {}


@dataclass(frozen=True)
class Known:
    """What is off, as far as it is known here."""

    items: dict[str, Blocked]
    problem: str = ""
    """Why that is what the copy says; empty where ``blocked.json`` says it."""
    exists: bool = True
    """False where there is neither the file nor its copy: nothing was ever blocked, or the folder is not there."""


class _Absent(CorruptArtifact):
    """There is no such file, as far as the disk can say."""


def blocked_path(paths: PathsConfig) -> Path:
    return paths.releases / BLOCKED_FILE


def copy_path(paths: PathsConfig) -> Path:
    return paths.releases / COPY_FILE


def known_blocked(paths: PathsConfig) -> Known:
    """Blocked items by id; none where there is neither the file nor its copy, as ``exists`` says.

    A file that was removed is one that cannot be read as long as its copy is there: `recsys unblock-item` puts an
    item back on sale, a slip of the hand does not.

    Raises:
        CorruptArtifact: neither can be read.
    """
    try:
        return Known(read_blocked(blocked_path(paths)))
    except CorruptArtifact as error:
        problem = error
    try:
        items = read_blocked(copy_path(paths))
    except CorruptArtifact as error:
        if isinstance(problem, _Absent) and isinstance(error, _Absent):
            return Known({}, exists=False)
        raise CorruptArtifact(
            f"{problem}, and {error}: services keep the blocked items that they know, one that starts now knows none; "
            f"mend it: bring {BLOCKED_FILE} back from a host that pulls, from publish.url or from a backup"
        ) from None
    return Known(
        items,
        f"{problem}: the {len(items)} items of its copy {COPY_FILE} are off; `recsys block-item`, where releases are "
        "published, writes both anew, also for an item that is off already",
    )


def blocked_items(paths: PathsConfig) -> dict[str, Blocked]:
    """The items of ``known_blocked``, for whoever has no ``degraded`` to show: with a line in the log.

    Raises:
        CorruptArtifact: neither the file nor its copy can be read.
    """
    known = known_blocked(paths)
    if known.problem:
        log.warning("blocked_items_of_the_copy", problem=known.problem)
    return known.items


def read_blocked(path: Path) -> dict[str, Blocked]:
    """Blocked items of one file, by id.

    Raises:
        CorruptArtifact: it cannot be read, or is no list of blocked items.
    """
    try:
        return parse_blocked(path.read_bytes(), str(path))
    except OSError as error:
        kind = _Absent if isinstance(error, FileNotFoundError) else CorruptArtifact
        raise kind(f"{path} is unreadable ({error.strerror})") from None


def parse_blocked(content: bytes, where: str) -> dict[str, Blocked]:
    """Blocked items by id, from what a file holds.

    Raises:
        CorruptArtifact: that is no list of blocked items.
    """
    try:
        return _File.model_validate_json(content).items
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))[:100] or "not JSON"
        raise CorruptArtifact(f"{where} is unreadable ({place}: {problem['msg'][:200]})") from None


def blocked_json(items: Mapping[str, Blocked]) -> bytes:
    """The file's text; of the same items always the same."""
    file = _File(items=dict(sorted(items.items()))).model_dump(mode="json")
    return json.dumps(file, ensure_ascii=False, indent=1).encode() + b"\n"


def replace_by_pulled(paths: PathsConfig, content: bytes, where: str) -> bool:
    """Make both files here what was read at ``where``; returns whether that changed any.

    Raises:
        CorruptArtifact: ``content`` is no list of blocked items; what is here stays.
    """
    try:
        parse_blocked(content, where)
    except CorruptArtifact as error:
        raise CorruptArtifact(
            f"{error}: what is blocked here stays off; `recsys release announce`, where releases are published, "
            "writes it anew"
        ) from None
    with _changing(paths):
        return _write(paths, content)


def keep_copy(paths: PathsConfig) -> None:
    """Make the copy what a file that can be read says: one of before there were copies has none."""
    with _changing(paths), suppress(CorruptArtifact):
        _write(paths, blocked_json(read_blocked(blocked_path(paths))))


def block_item(
    paths: PathsConfig, item_id: str, *, reason: str, now: datetime
) -> dict[str, Blocked]:
    """Take ``item_id`` off; returns all that are off now. Blocked again, the item gets the new reason.

    A damaged file is whole again afterwards, with what its copy knew.

    Raises:
        ConfigError: that is no item's id.
        CorruptArtifact: the file is damaged, and so is its copy; nothing was changed.
    """
    if not item_id or any("\ud800" <= letter <= "\udfff" for letter in item_id):
        raise ConfigError(f"{item_id!r} is no item's id: it is empty, or no UTF-8")
    with _changing(paths):
        items = blocked_items(paths) | {item_id: Blocked(reason=reason, at=now)}
        _write(paths, blocked_json(items))
        return items


def unblock_item(paths: PathsConfig, item_id: str) -> dict[str, Blocked]:
    """Let ``item_id`` be shown again; returns what is still off. It mends a damaged file as ``block_item`` does.

    Raises:
        ConfigError: the item is not blocked.
        CorruptArtifact: the file is damaged, and so is its copy; nothing was changed.
    """
    with _changing(paths):
        items = blocked_items(paths)
        if item_id not in items:
            named = ", ".join(map(repr, list(items)[:10])) or "none"
            raise ConfigError(f"item {item_id!r} is not blocked; blocked are: {named}")
        del items[item_id]
        _write(paths, blocked_json(items))
        return items


def _write(paths: PathsConfig, content: bytes) -> bool:
    """Replace what says otherwise, each file whole or not at all; the copy first, so that it lacks no new item."""
    stale = [path for path in (copy_path(paths), blocked_path(paths)) if _holds(path) != content]
    for path in stale:
        write_atomically(path, content)
    return bool(stale)


def _holds(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _changing(paths: PathsConfig) -> AbstractContextManager[None]:
    """Two people on call do not undo each other."""
    return exclusive(paths.locks / "blocked.lock", wait=True, what="a change of the blocked items")
