"""The pointer ``current``: the one file that says which release is live. It is the truth, tables are not."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import date, datetime
from pathlib import Path

from pydantic import ValidationError, field_validator

from recsys.config.base import Config
from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact
from recsys.locks import exclusive
from recsys.records import ModelManifest, write_atomically
from recsys.release.actions import read_actions
from recsys.release.manifest import ReleaseManifest

POINTER_FILE = "current"


class Pointer(Config):
    """What ``current`` says."""

    release_id: str
    previous: str = ""
    """The release that was live before; kept on disk."""
    pinned: bool = False
    """While true, later publishes are built but do not go live."""
    reason: str = ""
    """Why it was pinned or rolled back."""
    at: datetime
    """When the pointer was set, UTC."""
    epoch: int = 0
    """Grows with every change: of two pointers the one with the larger epoch is the newer."""

    @property
    def run_date(self) -> date:
        """Of the release; its name begins with it, so that a lost manifest does not hide it."""
        return date.fromisoformat(self.release_id[:10])

    @field_validator("release_id")
    @classmethod
    def _names_a_release(cls, release_id: str) -> str:
        date.fromisoformat(release_id[:10])
        if "/" in release_id:
            raise ValueError("a release's name has no slash")
        return release_id

    def to_json(self) -> bytes:
        """The file's text."""
        return self.model_dump_json(indent=1).encode() + b"\n"


def pointer_path(paths: PathsConfig) -> Path:
    return paths.releases / POINTER_FILE


def release_folder(paths: PathsConfig, release_id: str) -> Path:
    return paths.releases / release_id


def read_pointer(paths: PathsConfig) -> Pointer | None:
    """What is live, or None where nothing was ever published.

    Raises:
        CorruptArtifact: the file is there and is no pointer.
    """
    path = pointer_path(paths)
    try:
        return Pointer.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        problem = error.errors()[0]
        raise CorruptArtifact(
            f"the pointer {path} is unreadable ({'.'.join(map(str, problem['loc'])) or 'not JSON'}: "
            f"{problem['msg'][:200]}): services keep the release they have; choose one with "
            "`recsys release list`, then `recsys release roll-back --to RELEASE`"
        ) from None


def pointer_lock(paths: PathsConfig) -> AbstractContextManager[None]:
    """Held around reading the pointer and writing it again; never for long."""
    return exclusive(paths.locks / "pointer.lock", wait=True, what="a change of the live release")


def write_pointer(paths: PathsConfig, pointer: Pointer) -> None:
    """Swap the pointer: whole or not at all."""
    write_atomically(pointer_path(paths), pointer.to_json())


def next_epoch(paths: PathsConfig, live: Pointer | None) -> int:
    """The epoch of a change now; larger than any before it, even where the pointer was lost or is unreadable."""
    return 1 + max([live.epoch if live else 0, *(one.epoch for one in read_actions(paths))])


def live_release(paths: PathsConfig) -> ReleaseManifest | None:
    """The manifest of the release that is live, or None where nothing was ever published.

    Raises:
        CorruptArtifact: the pointer or the manifest it names is missing or damaged.
    """
    pointer = read_pointer(paths)
    return (
        None if pointer is None else ReleaseManifest.read(release_folder(paths, pointer.release_id))
    )


def live_model(paths: PathsConfig) -> ModelManifest | None:
    """The manifest of the live release's model; None where nothing is live, or its folder has gone."""
    live = live_release(paths)
    folder = paths.models / live.model.version if live else None
    return ModelManifest.read(folder) if folder and folder.exists() else None
