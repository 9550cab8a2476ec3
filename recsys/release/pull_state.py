"""``pull_state.json`` beside the pointer of a host that pulls: whom it follows, and how that goes."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from recsys.config.base import Config
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError
from recsys.records import write_atomically

PULL_STATE_FILE = "pull_state.json"


class PullState(Config):
    """What a host that pulls knows of its source; a lookup service may show it."""

    url: str
    release_id: str = ""
    """Live here, as the source said; empty before the first success."""
    epoch: int = 0
    """Of the source's pointer that is in force here."""
    last_success: datetime | None = None
    """UTC; when the source last answered and what it announces was live here."""
    last_error: str = ""
    """Empty after a success with nothing wrong beside it."""
    last_error_at: datetime | None = None


def pull_state_path(paths: PathsConfig) -> Path:
    return paths.releases / PULL_STATE_FILE


def read_pull_state(paths: PathsConfig) -> PullState | None:
    """None where this is no host that pulls, or where the file is damaged: the next poll writes it anew."""
    try:
        return PullState.model_validate_json(pull_state_path(paths).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write_pull_state(paths: PathsConfig, state: PullState) -> None:
    text = json.dumps(state.model_dump(mode="json"), indent=1) + "\n"
    write_atomically(pull_state_path(paths), text.encode())


def refuse_where_pulled(paths: PathsConfig, what: str) -> None:
    """Keep what a publisher decides from being decided on a host that would be told otherwise at its next poll.

    Raises:
        ConfigError: this host pulls.
    """
    path = pull_state_path(paths)
    if not path.exists():
        return
    state = read_pull_state(paths)
    source = state.url if state else "another place"
    raise ConfigError(
        f"{what} is decided where releases are published; this host follows {source}. To cut it loose, stop "
        f"`recsys pull` here and remove {path}"
    )
