"""Reading: only a checkpoint whose every file is what its manifest says exists, on any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import structlog

from recsys.errors import ContractError, CorruptArtifact
from recsys.records import sha256_of
from recsys.training.checkpoint.arrays import Arrays, read_arrays
from recsys.training.checkpoint.blocks import shape_and_type, take_rows
from recsys.training.checkpoint.manifest import DENSE, Manifest, Place, file_of, newest_first

log = structlog.get_logger()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with a manifest; ``newest`` and ``of_epoch`` give those that verify."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Without a look at its files: for the other ranks, once rank 0 has verified it.

        Raises:
            CorruptArtifact: the manifest is missing or damaged.
        """
        return cls(path, Manifest.read(path))

    def dense(self) -> Arrays:
        return read_arrays(self.path / DENSE)

    def rows(self, table: str, array: str, rank: int, spread: int) -> npt.NDArray[Any]:
        """Rows ``rank``, ``rank + spread``, ... of a table: what one of ``spread`` ranks holds.

        The rows lie in one file for each rank that wrote. Those that both have are an arithmetic progression
        again, so that they are read with a stride and held once.

        Raises:
            ContractError: there is no such table or array.
            CorruptArtifact: a file is not what the manifest says of the table.
        """
        facts = self.manifest.tables.get(table)
        if facts is None or array not in facts.arrays:
            have = {name: facts.arrays for name, facts in self.manifest.tables.items()}
            raise ContractError(
                f"checkpoint {self.path} has no array {array!r} of a table {table!r}; it has {have}: "
                "the model's tables or their update rules have changed since"
            )
        files = [
            self.path / file_of(table, array, source, facts.spread)
            for source in range(facts.spread)
        ]
        shape, dtype = shape_and_type(files[0])
        found = np.empty((len(range(rank, facts.rows, spread)), *shape[1:]), dtype)
        step = math.lcm(spread, facts.spread)
        for source, file in enumerate(files):
            both = [row for row in range(rank, rank + step, spread) if row % facts.spread == source]
            if both and both[0] < facts.rows:
                num_rows = len(range(both[0], facts.rows, step))
                start, stride = both[0] // facts.spread, step // facts.spread
                wanted = slice(start, start + (num_rows - 1) * stride + 1, stride)
                take_rows(file, wanted, found[(both[0] - rank) // spread :: step // spread])
        return found

    def table(self, table: str, array: str = "weight") -> npt.NDArray[Any]:
        """A whole table, whoever held it."""
        return self.rows(table, array, 0, 1)

    def verify(self) -> None:
        """Hash every file.

        Raises:
            CorruptArtifact: names the first file that is missing, short or changed.
        """
        self.verify_sizes()
        for name, wanted in self.manifest.files.items():
            if (found := sha256_of(self.path / name)) != wanted.sha256:
                raise CorruptArtifact(
                    f"checkpoint file {self.path / name} has sha256 {found[:12]}; its manifest says "
                    f"{wanted.sha256[:12]}"
                )

    def verify_sizes(self) -> None:
        """What can be said without reading the files.

        Raises:
            CorruptArtifact: a file is missing or has another length, or the manifest is of another folder.
        """
        facts = self.manifest.facts
        place = Place(facts.epoch, facts.epoch_step, int(self.path.name.rpartition("-")[2]))
        if place.folder_name != self.path.name:
            raise CorruptArtifact(
                f"checkpoint {self.path} has the manifest of another place in training: epoch {facts.epoch}, "
                f"step {facts.epoch_step} of the next one"
            )
        for name, wanted in self.manifest.files.items():
            path = self.path / name
            if not path.is_file():
                raise CorruptArtifact(f"checkpoint file {path} is missing")
            if (size := path.stat().st_size) != wanted.size_bytes:
                raise CorruptArtifact(
                    f"checkpoint file {path} has {size} bytes; its manifest says {wanted.size_bytes}"
                )


def newest(folder: Path, key: str) -> Checkpoint | None:
    """The newest checkpoint of the fit ``key`` that verifies, of any world size.

    What does not verify is named in the log and passed over.
    """
    return _first_whole(folder, lambda place: True, key)


def of_epoch(folder: Path, epoch: int) -> Checkpoint | None:
    """The newest verifying checkpoint of an epoch's end."""
    return _first_whole(folder, lambda place: (place.epoch, place.epoch_step) == (epoch, 0))


def _first_whole(
    folder: Path, wanted: Callable[[Place], bool], key: str | None = None
) -> Checkpoint | None:
    for place, path in newest_first(folder):
        if wanted(place):
            try:
                found = Checkpoint.open(path)
                if key is not None and found.manifest.facts.key != key:
                    raise CorruptArtifact(
                        f"checkpoint {path} belongs to another run ({found.manifest.facts.key}, wanted {key})"
                    )
                found.verify()
            except (CorruptArtifact, OSError) as error:
                log.warning("checkpoint_passed_over", reason=str(error))
            else:
                return found
    return None
