"""What is live, read from the pointer and its log: the table ``releases`` hears of a roll-back at the next publish."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog

from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact
from recsys.release.actions import Action, read_actions
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import Pointer, read_pointer, release_folder
from recsys.release.snapshot import MANIFEST_FILE

log = structlog.get_logger()

Columns = dict[str, str]
"""Name -> type as Spark calls it."""

LIVE_RELEASE = "live_release"
LIVE_RELEASE_COLUMNS: Columns = {
    "release_id": "string", "run_date": "date", "since": "timestamp", "pinned": "boolean", "reason": "string",
    "set_at": "timestamp", "epoch": "bigint", "previous": "string", "model_version": "string",
    "model_as_of": "date", "model_age_days": "int", "table_versions": "map<string,bigint>",
    "config_hash": "string", "code": "string", "content_hash": "string", "manifest": "string",
}  # fmt: skip

RELEASE_ACTIONS = "release_actions"
RELEASE_ACTIONS_COLUMNS: Columns = {
    "release_id": "string", "run_date": "date", "action": "string", "done_at": "timestamp",
    "model_version": "string", "model_age_days": "int", "reason": "string", "epoch": "bigint",
}  # fmt: skip


def release_rows(paths: PathsConfig) -> dict[str, tuple[Columns, list[tuple[Any, ...]]]]:
    """View -> its columns and rows; a view without rows is left out."""
    actions = read_actions(paths)
    live = _live_row(paths, actions)
    views = {
        LIVE_RELEASE: (LIVE_RELEASE_COLUMNS, [live] if live else []),
        RELEASE_ACTIONS: (
            RELEASE_ACTIONS_COLUMNS,
            [
                (
                    a.release_id,
                    a.run_date,
                    a.action,
                    a.at,
                    a.model_version,
                    a.model_age_days,
                    a.reason,
                    a.epoch,
                )
                for a in actions
            ],
        ),
    }
    return {name: view for name, view in views.items() if view[1]}


def _live_row(paths: PathsConfig, actions: list[Action]) -> tuple[Any, ...] | None:
    try:
        pointer = read_pointer(paths)
        if pointer is None:
            return None
        folder = release_folder(paths, pointer.release_id)
        manifest = ReleaseManifest.read(folder)
    except CorruptArtifact as error:
        log.warning("live_release_unknown", problem=str(error))  # other questions can be answered
        return None
    model, code = manifest.model, manifest.code
    return (
        pointer.release_id, manifest.run_date, live_since(pointer, actions), pointer.pinned, pointer.reason,
        pointer.at, pointer.epoch, pointer.previous, model.version, model.as_of, model.age_days,
        {name: table.version for name, table in manifest.tables.items()}, manifest.config_hash,
        code.commit or code.package, manifest.content_hash, (folder / MANIFEST_FILE).read_text(),
    )  # fmt: skip


def live_since(pointer: Pointer, actions: list[Action]) -> datetime:
    """When the release went live: a pin of what is live, an unpin and a take-over set the pointer alone."""
    since = pointer.at
    for action in reversed(actions):
        if action.action == "held" or action.at > pointer.at:
            continue
        if action.release_id != pointer.release_id:
            break
        since = action.at
    return since
