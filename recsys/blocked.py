"""``blocked.json`` beside the pointer: the items that the person on call took off, before the next release does.

A small file, so that every lookup host can look at it every other second; scoring reads it too, and leaves the
same items out of the lists that it makes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from recsys.config.base import Config
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError, CorruptArtifact
from recsys.locks import exclusive
from recsys.records import write_atomically

BLOCKED_FILE = "blocked.json"


class Blocked(Config):
    """Why an item is off, and since when."""

    reason: str
    at: datetime
    """UTC."""


class _File(Config):
    items: dict[str, Blocked] = {}


def blocked_path(paths: PathsConfig) -> Path:
    return paths.releases / BLOCKED_FILE


def read_blocked(path: Path) -> dict[str, Blocked]:
    """Blocked items by id; none where there is no file.

    Raises:
        CorruptArtifact: the file is there and is no list of blocked items.
    """
    try:
        return _File.model_validate_json(path.read_bytes()).items
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))[:100] or "not JSON"
        raise CorruptArtifact(
            f"{path} is unreadable ({where}: {problem['msg'][:200]}): services keep the blocked items that "
            "they know; mend it, or remove it and block the items again (recsys block-item)"
        ) from None


def write_blocked(path: Path, items: Mapping[str, Blocked]) -> None:
    """Replace the file: whole or not at all."""
    file = _File(items=dict(sorted(items.items()))).model_dump(mode="json")
    write_atomically(path, json.dumps(file, ensure_ascii=False, indent=1).encode() + b"\n")


def block_item(
    paths: PathsConfig, item_id: str, *, reason: str, now: datetime
) -> dict[str, Blocked]:
    """Take ``item_id`` off; returns all that are off now. Blocked again, the item gets the new reason.

    Raises:
        ConfigError: that is no item's id.
        CorruptArtifact: the file is damaged; nothing was changed.
    """
    if not item_id or any("\ud800" <= letter <= "\udfff" for letter in item_id):
        raise ConfigError(f"{item_id!r} is no item's id: it is empty, or no UTF-8")
    with _changing(paths):
        path = blocked_path(paths)
        items = read_blocked(path) | {item_id: Blocked(reason=reason, at=now)}
        write_blocked(path, items)
        return items


def unblock_item(paths: PathsConfig, item_id: str) -> dict[str, Blocked]:
    """Let ``item_id`` be shown again; returns what is still off.

    Raises:
        ConfigError: the item is not blocked.
        CorruptArtifact: the file is damaged; nothing was changed.
    """
    with _changing(paths):
        path = blocked_path(paths)
        items = read_blocked(path)
        if item_id not in items:
            named = ", ".join(map(repr, list(items)[:10])) or "none"
            raise ConfigError(f"item {item_id!r} is not blocked; blocked are: {named}")
        del items[item_id]
        write_blocked(path, items)
        return items


def _changing(paths: PathsConfig) -> AbstractContextManager[None]:
    """Two people on call do not undo each other."""
    return exclusive(paths.locks / "blocked.lock", wait=True, what="a change of the blocked items")
