"""Reading: only a checkpoint whose every file is what its manifest says exists, on any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import structlog

from recsys.errors import ContractError, CorruptArtifact
from recsys.training.checkpoint.arrays import Arrays, read_arrays
from recsys.training.checkpoint.blocks import sha256_of, shape_and_type, take_rows
from recsys.training.checkpoint.manifest import DENSE, Manifest, Place, file_of, newest_first

log = structlog.get_logger()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with a manifest; ``Search`` gives those that verify."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Without a look at its files.

        Raises:
            CorruptArtifact: the manifest is missing or damaged.
        """
        return cls(path, Manifest.read(path))

    def dense(self) -> Arrays:
        return read_arrays(self.path / DENSE)

    @property
    def place(self) -> Place:
        """Where in training its manifest says that it stands; the attempt is in the folder's name alone."""
        facts = self.manifest.facts
        return Place(facts.epoch, facts.epoch_step, int(self.path.name.rpartition("-")[2]))

    def rows(
        self, table: str, array: str, rank: int, spread: int,
        each_block: Callable[[], None] = lambda: None, *, into: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]:  # fmt: skip
        """Rows ``rank``, ``rank + spread``, ... of a table: what one of ``spread`` ranks holds.

        The rows lie in one file for each rank that wrote. Those that both have are an arithmetic progression
        again, so that they are read with a stride and held once: ``into`` what is given, where that has their shape
        and type.

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
        wanted_shape = (len(range(rank, facts.rows, spread)), *shape[1:])
        fits = into is not None and (into.shape, into.dtype) == (wanted_shape, dtype)
        found = into if into is not None and fits else np.empty(wanted_shape, dtype)
        step = math.lcm(spread, facts.spread)
        for source, file in enumerate(files):
            both = [row for row in range(rank, rank + step, spread) if row % facts.spread == source]
            if both and both[0] < facts.rows:
                num_rows = len(range(both[0], facts.rows, step))
                start, stride = both[0] // facts.spread, step // facts.spread
                wanted = slice(start, start + (num_rows - 1) * stride + 1, stride)
                mine = found[(both[0] - rank) // spread :: step // spread]
                take_rows(file, wanted, mine, each_block)
        return found

    def table(self, table: str, array: str = "weight") -> npt.NDArray[Any]:
        """A whole table, whoever held it."""
        return self.rows(table, array, 0, 1)

    def verify(
        self, rank: int = 0, size: int = 1, each_block: Callable[[], None] = lambda: None
    ) -> None:
        """Hash every file, or the share that is ``rank``'s of ``size``.

        Raises:
            CorruptArtifact: names the first file that is missing, short or changed.
        """
        self.verify_sizes()
        for name, wanted in list(self.manifest.files.items())[rank::size]:
            if (found := sha256_of(self.path / name, each_block)) != wanted.sha256:
                raise CorruptArtifact(
                    f"checkpoint file {self.path / name} has sha256 {found[:12]}; its manifest says "
                    f"{wanted.sha256[:12]}"
                )

    def verify_sizes(self) -> None:
        """What can be said without reading the files.

        Raises:
            CorruptArtifact: a file is missing or has another length, or the manifest is of another folder.
        """
        if self.place.folder_name != self.path.name:
            raise CorruptArtifact(
                f"checkpoint {self.path} has the manifest of another place in training: epoch {self.place.epoch}, "
                f"step {self.place.epoch_step} of the next one"
            )
        for name, wanted in self.manifest.files.items():
            path = self.path / name
            if not path.is_file():
                raise CorruptArtifact(f"checkpoint file {path} is missing")
            if (size := path.stat().st_size) != wanted.size_bytes:
                raise CorruptArtifact(
                    f"checkpoint file {path} has {size} bytes; its manifest says {wanted.size_bytes}"
                )


def whole(
    folder: Path, key: str, wanted: Callable[[Place], bool] = lambda place: True
) -> Iterator[Checkpoint]:
    """Newest first, what is of the fit ``key`` and has all its files, by their sizes; the others are in the log."""
    for place, path in newest_first(folder):
        if wanted(place):
            try:
                found = whole_one(path, key)
            except (CorruptArtifact, OSError) as error:
                pass_over(error)
            else:
                yield found


def whole_one(path: Path, key: str) -> Checkpoint:
    """Without a look into its files.

    Raises:
        CorruptArtifact: a file is missing or has another length, or it is of another fit than ``key``.
    """
    found = Checkpoint.open(path)
    if found.manifest.facts.key != key:
        raise CorruptArtifact(
            f"checkpoint {path} belongs to another run ({found.manifest.facts.key}, wanted {key})"
        )
    found.verify_sizes()
    return found


def pass_over(reason: object) -> None:
    log.warning("checkpoint_passed_over", reason=str(reason))
