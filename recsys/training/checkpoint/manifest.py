"""What a checkpoint is called, and the manifest without which it does not exist."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import ValidationError, field_validator

from recsys.config.base import Config
from recsys.errors import CorruptArtifact

MANIFEST = "manifest.json"
DENSE = "dense.npz"

FORMAT = 1
"""Of what is written; fields that a later version adds have defaults, so they need no other number."""

_FOLDER = re.compile(r"epoch-(\d+)-step-(\d+)-(\d+)")
_SEAL = re.compile(rb'\n "sha256": "([0-9a-f]{64})"')


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

    def is_end_of(self, epoch: int) -> bool:
        return (self.epoch, self.epoch_step) == (epoch, 0)


def newest_first(folder: Path) -> Iterator[tuple[Place, Path]]:
    """Every checkpoint of ``folder``, finished or not."""
    names = os.listdir(folder) if folder.exists() else []
    found = [(place, folder / name) for name in names if (place := place_named(name))]
    yield from sorted(found, reverse=True)


def place_named(name: str) -> Place | None:
    """Of a folder; None where it is no checkpoint's."""
    match = _FOLDER.fullmatch(name)
    return Place(*(int(part) for part in match.groups())) if match else None


def file_of(table: str, array: str, rank: int, spread: int) -> str:
    """The file with the rows rank, rank + spread, ... of an array of a table."""
    return f"{table}.{array}.{rank}-of-{spread}.npy"


class Facts(Config):
    """What the trainer knows when it saves, and needs to go on.

    Random generators are made anew for each step from (seed, step, rank, purpose), so ``seed`` and the
    steps are their whole state.
    """

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
    num_examples: int = 0
    """That every epoch trains on, over all ranks."""
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


def best_epoch(validation: Sequence[float]) -> int:
    """The earliest epoch with the best validation, counted from 1; 0 where nothing was validated."""
    if not validation:
        return 0
    return 1 + max(range(len(validation)), key=lambda i: (validation[i], -i))


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

    format: int = FORMAT
    facts: Facts
    embedding_step: int
    """Updates of the embedding tables; Adam corrects its bias by it."""
    tables: dict[str, TableFacts]
    files: dict[str, FileFacts]

    @field_validator("files")
    @classmethod
    def _lie_in_the_folder(cls, files: dict[str, FileFacts]) -> dict[str, FileFacts]:
        if outside := [name for name in files if Path(name).name != name]:
            raise ValueError(f"{outside[0]!r} is no file of the checkpoint's own folder")
        return files

    def sealed(self) -> bytes:
        """The file: the fields, and a line with the sha256 of everything but that line."""
        body = self.model_dump_json(indent=1).removesuffix("\n}") + ",\n}"
        seal = f'\n "sha256": "{hashlib.sha256(body.encode()).hexdigest()}"'
        return (body.removesuffix("\n}") + seal + "\n}").encode()

    @classmethod
    def read(cls, checkpoint: Path) -> Self:
        """Raises CorruptArtifact where there is none, not the one that was written, or one of a later version."""
        try:
            content = (checkpoint / MANIFEST).read_bytes()
        except FileNotFoundError:
            raise CorruptArtifact(
                f"checkpoint {checkpoint} has no manifest: it was not finished"
            ) from None
        # Of the bytes as they lie there: rendered anew, they would be others once a field is added.
        body, seal = _SEAL.sub(b"", content), _SEAL.findall(content)
        if seal != [hashlib.sha256(body).hexdigest().encode()]:
            raise CorruptArtifact(
                f"checkpoint {checkpoint} has a damaged {MANIFEST}: it has another sha256 than it says"
            )
        fields = json.loads(content)
        del fields["sha256"]
        if (found := fields.get("format")) != FORMAT:
            raise CorruptArtifact(
                f"checkpoint {checkpoint} has format {found}; this version of the code reads {FORMAT}: go on with the "
                "version that wrote it, or train anew"
            )
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise CorruptArtifact(
                f"checkpoint {checkpoint} has a {MANIFEST} of another version of the code "
                f"({error.error_count()} problems, the first at {error.errors()[0]['loc']})"
            ) from None
