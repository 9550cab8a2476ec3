"""What ``why_not`` needs and no table has: the full run that a day's lists rest on, and what a person took off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import structlog

from recsys.blocked import blocked_items
from recsys.config.places import PathsConfig
from recsys.errors import ContractError, CorruptArtifact
from recsys.records import ScoringRecord
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import read_pointer
from recsys.release.shelf import shelved_releases
from recsys.sql.live import Columns

log = structlog.get_logger()

SCORED_DAYS = "scored_days"
SCORED_DAYS_COLUMNS: Columns = {"as_of": "date", "full_as_of": "date", "is_increment": "boolean"}

BLOCKED_ITEMS = "blocked_items"
BLOCKED_ITEMS_COLUMNS: Columns = {
    "item_id": "string", "reason": "string", "since": "timestamp", "run_date": "date",
}  # fmt: skip

ScoredDay = tuple[date, date, bool]
BlockedItem = tuple[str, str, datetime, date | None]


def recorded_rows(
    paths: PathsConfig, release: ReleaseManifest | None
) -> dict[str, tuple[Columns, Sequence[tuple[Any, ...]]]]:
    """Table -> its columns and rows; it is there without rows, too, for ``why_not`` asks it."""
    return {
        SCORED_DAYS: (SCORED_DAYS_COLUMNS, scored_days(paths, release)),
        BLOCKED_ITEMS: (BLOCKED_ITEMS_COLUMNS, blocked_rows(paths)),
    }


def scored_days(paths: PathsConfig, release: ReleaseManifest | None) -> list[ScoredDay]:
    """A row of each run date whose record is there; that of ``release`` as its manifest says.

    A run date that was scored again after it was published has another record than the release. Where a run was
    refused or killed it has none, and its lists are still those that were published.
    """
    days = {one.run_date: _released(one) for one in _shelved_manifests(paths)}
    days |= {day: found for day in ScoringRecord.run_dates(paths) if (found := _scored(paths, day))}
    if release:
        days[release.run_date] = _released(release)
    return [days[day] for day in sorted(days)]


def _shelved_manifests(paths: PathsConfig) -> list[ReleaseManifest]:
    """Of a run date that has several, the one to go by comes last: the live one, or else the newest."""
    live = _live_release_id(paths)
    shelved = sorted(reversed(shelved_releases(paths)), key=lambda one: one.release_id == live)
    return [one.manifest for one in shelved if one.manifest]


def _released(manifest: ReleaseManifest) -> ScoredDay:
    return manifest.run_date, manifest.inputs_as_of, manifest.is_increment


def _scored(paths: PathsConfig, day: date) -> ScoredDay | None:
    try:
        record = ScoringRecord.read(paths, day)
    except ContractError as error:
        log.warning("scored_day_unknown", problem=str(error))  # other questions can be answered
        return None
    return day, record.inputs_as_of, record.full_as_of is not None


def blocked_rows(paths: PathsConfig) -> list[BlockedItem]:
    """A row of each item that `recsys block-item` took off, and the run date of the live release that holds it yet."""
    try:
        items = blocked_items(paths)
    except CorruptArtifact as error:
        log.warning("blocked_items_unknown", problem=str(error))
        return []
    release_id = _live_release_id(paths) if items else ""
    live = date.fromisoformat(release_id[:10]) if release_id else None
    return [(item_id, one.reason, one.at, live) for item_id, one in sorted(items.items())]


def _live_release_id(paths: PathsConfig) -> str:
    """'' where none is live, or nobody can say which."""
    try:
        pointer = read_pointer(paths)
    except CorruptArtifact:
        return ""  # live_release has said so
    return pointer.release_id if pointer else ""
