"""Which checkpoint a fit goes on from, found by all ranks together: what one finds damaged, none takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from recsys.embeddings import Comm, LocalComm
from recsys.errors import CorruptArtifact
from recsys.training.checkpoint.manifest import best_epoch, place_named
from recsys.training.checkpoint.reading import Checkpoint, pass_over, whole, whole_one


class Search:
    """Looks through the checkpoints that were there when it was made. Every method is collective.

    Rank 0 says which these are, since another rank may look a moment later. Each rank hashes its share of the files.
    """

    def __init__(
        self, folder: Path, key: str, comm: Comm, each_block: Callable[[], None] = lambda: None
    ) -> None:
        """``each_block`` is called after every block that is hashed."""
        self._key, self._comm, self._each_block = key, comm, each_block
        names = [found.path.name for found in whole(folder, key)] if comm.rank == 0 else []
        said = comm.gather_texts(json.dumps(names), "checkpoints")[0]
        self._paths = [folder / name for name in json.loads(said)]
        self._looked_at: dict[Path, Checkpoint | None] = {}

    def newest(self) -> Checkpoint | None:
        """The newest from which the fit can be finished: it verifies, and so does the end of its best epoch.

        A fit that went on without its best epoch would come to its end and have no model there.
        """
        for path in self._paths:
            found = self._verified(path)
            if found is None:
                continue
            validation = found.manifest.facts.validation
            if not validation or self.end_of(best_epoch(validation), validation):
                return found
            self._pass_over(
                f"checkpoint {path} cannot be finished: the end of epoch {best_epoch(validation)}, its best, is "
                "gone or damaged"
            )
        return None

    def end_of(self, epoch: int, validation: tuple[float, ...]) -> Checkpoint | None:
        """The newest that verifies of an epoch's end, in a fit whose validation by epoch is ``validation``."""
        for path in self._paths:
            place = place_named(path.name)
            if place is None or not place.is_end_of(epoch):
                continue
            found = self._verified(path)
            # Two attempts on different numbers of ranks have epochs of the same number and other weights.
            if found is not None and found.manifest.facts.validation == validation[:epoch]:
                return found
        return None

    def _verified(self, path: Path) -> Checkpoint | None:
        if path not in self._looked_at:
            found, problem = None, ""
            try:
                found = whole_one(path, self._key)
                found.verify(self._comm.rank, self._comm.size, self._each_block)
            except (CorruptArtifact, OSError) as error:
                problem = str(error)
            problems = [p for p in self._comm.gather_texts(problem, "checkpoint verified") if p]
            if problems:
                self._pass_over("; ".join(problems))
            self._looked_at[path] = None if problems else found
        return self._looked_at[path]

    def _pass_over(self, reason: str) -> None:
        if self._comm.rank == 0:
            pass_over(reason)


def newest(folder: Path, key: str) -> Checkpoint | None:
    """What a process alone would go on from."""
    return Search(folder, key, LocalComm()).newest()
