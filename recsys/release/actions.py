"""What was done to the live release, as JSON lines beside it; publish copies them into the table ``releases``.

The console command needs no JVM, and so cannot write the table itself.
"""

from __future__ import annotations

import os
from datetime import date, datetime
from pathlib import Path
from typing import Literal, Self

import structlog
from pydantic import ValidationError

from recsys.config.base import Config
from recsys.config.places import PathsConfig
from recsys.release.manifest import ReleaseManifest

log = structlog.get_logger()

ACTIONS_FILE = "actions.jsonl"
Verb = Literal["published", "held", "pinned", "unpinned", "rolled_back", "taken_over"]


class Action(Config):
    """One line."""

    release_id: str
    run_date: date
    action: Verb
    at: datetime
    """UTC; the pointer's own time where the pointer moved."""
    model_version: str = ""
    model_age_days: int | None = None
    reason: str = ""
    epoch: int = 0
    """Of the pointer that it set; 0 where it set none."""

    @classmethod
    def of(
        cls, manifest: ReleaseManifest, verb: Verb, *, at: datetime, reason: str, epoch: int = 0
    ) -> Self:
        """What was done to the release of ``manifest``."""
        return cls(
            release_id=manifest.release_id,
            run_date=manifest.run_date,
            action=verb,
            at=at,
            model_version=manifest.model.version,
            model_age_days=manifest.model.age_days,
            reason=reason,
            epoch=epoch,
        )


def actions_path(paths: PathsConfig) -> Path:
    return paths.releases / ACTIONS_FILE


def append_action(paths: PathsConfig, action: Action) -> None:
    """Add a line, durably."""
    path = actions_path(paths)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        size = file.seek(0, os.SEEK_END)
        torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write((b"\n" if torn else b"") + action.model_dump_json().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_actions(paths: PathsConfig) -> list[Action]:
    """All lines, oldest first; a line that was torn by a full disk is skipped and logged."""
    path = actions_path(paths)
    if not path.exists():
        return []
    actions = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            actions.append(Action.model_validate_json(line))
        except ValidationError:
            log.warning("action_unreadable", file=str(path), line=number)
    return actions
