"""What a checkpoint is called, and the manifest without which it does not exist."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import ConfigDict, ValidationError, field_validator

from recsys.config.base import Config
from recsys.errors import CorruptArtifact

MANIFEST = "manifest.json"
DENSE = "dense.npz"

_FOLDER = re.compile(r"epoch-(\d+)-step-(\d+)-(\d+)")


class Place(NamedTuple):
    """Where in training a checkpoint stands; a later one is greater."""

    epoch: int
    """Epochs done."""
    epoch_step: int
    """Steps done in the epoch under way; 0 at an epoch's end."""
    attempt: int
    """Grows where an earlier attempt left a folder behind."""

    @property
    def folder_name(self) -> str:
        return f"epoch-{self.epoch:03}-step-{self.epoch_step:06}-{self.attempt}"


def newest_first(folder: Path) -> Iterator[tuple[Place, Path]]:
    """Every checkpoint of ``folder``, finished or not."""
    names = os.listdir(folder) if folder.exists() else []
    matches = [match for name in names if (match := _FOLDER.fullmatch(name))]
    for match in sorted(matches, key=place_of, reverse=True):
        yield place_of(match), folder / match.string


def place_of(match: re.Match[str]) -> Place:
    return Place(*(int(part) for part in match.groups()))


def file_of(table: str, array: str, rank: int, spread: int) -> str:
    """The file with the rows rank, rank + spread, ... of an array of a table."""
    return f"{table}.{array}.{rank}-of-{spread}.npy"


class Facts(Config):
    """What the trainer knows when it saves, and needs to go on.

    Random generators are made anew for each step from (seed, step, rank, purpose), so ``seed`` and the
    steps are their whole state.
    """

    # A validation that had nothing to divide by is NaN, which JSON proper does not know.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    key: str
    """Of the fit: a checkpoint of another one is never taken up."""
    epoch: int
    """Epochs done."""
    step: int
    """Steps done, over all epochs."""
    epoch_step: int = 0
    """Steps done in the epoch under way; 0: this is an epoch's end."""
    position: dict[str, Any] = {}
    """The loader's own account of where it is in the epoch, as JSON."""
    seed: int = 0
    validation: tuple[float, ...] = ()
    """By epoch, empty without validation."""
    world_size: int = 1
    plan: str = ""
    """Where the tables lay, for those who read it."""
    optimizer: dict[str, Any] = {}
    """Rules and rates by table, and those of the dense parameters."""
    config_hash: str = ""
    vocabulary_hash: str = ""
    code_version: str = ""


class TableFacts(Config):
    rows: int
    dim: int
    spread: int
    """Row r is in the file of rank r mod ``spread``."""
    arrays: tuple[str, ...]
    """``weight`` and the slots of the update rule."""


class FileFacts(Config):
    size_bytes: int
    sha256: str


class Manifest(Config):
    """``manifest.json``, written last: what it does not name is not part of the checkpoint."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    facts: Facts
    embedding_step: int
    """Updates of the embedding tables; Adam corrects its bias by it."""
    tables: dict[str, TableFacts]
    files: dict[str, FileFacts]
    sha256: str = ""
    """Of this manifest without this line."""

    @field_validator("files")
    @classmethod
    def _lie_in_the_folder(cls, files: dict[str, FileFacts]) -> dict[str, FileFacts]:
        if outside := [name for name in files if Path(name).name != name]:
            raise ValueError(f"{outside[0]!r} is no file of the checkpoint's own folder")
        return files

    def rendered(self) -> bytes:
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def read(cls, checkpoint: Path) -> Self:
        """Raises CorruptArtifact where there is none, or not the one that was written."""
        try:
            content = (checkpoint / MANIFEST).read_bytes()
        except FileNotFoundError:
            raise CorruptArtifact(
                f"checkpoint {checkpoint} has no manifest: it was not finished"
            ) from None
        try:
            manifest = cls.model_validate_json(content)
        except ValidationError as error:
            raise CorruptArtifact(
                f"checkpoint {checkpoint} has a damaged {MANIFEST} ({error.error_count()} problems)"
            ) from None
        if content != manifest.rendered() or manifest.sha256 != manifest.digest():
            raise CorruptArtifact(
                f"checkpoint {checkpoint} has a damaged {MANIFEST}: it has another sha256 than it says"
            )
        return manifest

    def digest(self) -> str:
        content = self.model_dump_json(exclude={"sha256"}).encode()
        return hashlib.sha256(content).hexdigest()

    def sealed(self) -> Self:
        """With its own checksum."""
        return self.model_copy(update={"sha256": self.digest()})
