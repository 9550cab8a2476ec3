"""What the service asks of a release: values by id, and where releases and blocked items come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from recsys.blocked import Known, blocked_path, copy_path, known_blocked
from recsys.config.places import PathsConfig
from recsys.errors import MissingInput
from recsys.release.opening import open_release, open_release_aside
from recsys.release.pointer import Pointer, read_pointer, release_folder
from recsys.release.pull_state import PullState, read_pull_state
from recsys.release.snapshot import Kind, Snapshot


class Store(Protocol):
    """One release, open for reading."""

    @property
    def release_id(self) -> str: ...

    def get(self, kind: Kind, id_: str) -> bytes | memoryview | None:
        """The stored list (``release.stored_list``) of a user, an item, a segment ('' is the whole shop) or a
        category; the JSON of an item's facts or of what a user bought."""
        ...

    def get_many(self, kind: Kind, ids: Sequence[str]) -> Sequence[bytes | memoryview | None]:
        """``get`` of each, in order."""
        ...

    def longest(self, kind: Kind) -> int:
        """Length of the longest list of this kind."""
        ...

    def count(self, kind: Kind) -> int: ...

    def close(self) -> None: ...


class Releases(Protocol):
    """Which release is live, how to open one, what is off whatever it says, and how pulling goes."""

    def live(self) -> Pointer:
        """Raises CorruptArtifact or MissingInput where that cannot be said."""
        ...

    def open(self, release_id: str) -> Store:
        """Verify and open. Raises CorruptArtifact where something is off."""
        ...

    async def open_aside(self, release_id: str, *, urgent: bool) -> Store:
        """``open`` for a process that answers meanwhile: another one verifies, when it is idle or ``urgent``."""
        ...

    def blocked(self) -> Known:
        """Raises CorruptArtifact where that cannot be said."""
        ...

    def pulled(self) -> PullState | None:
        """How a host that pulls its releases gets on; None where they are published to."""
        ...


class PublishedReleases:
    """The releases of ``paths.releases``."""

    def __init__(self, paths: PathsConfig) -> None:
        self._paths = paths
        self._blocked: tuple[list[tuple[int, int]], Known] = ([], Known({}))

    def live(self) -> Pointer:
        pointer = read_pointer(self._paths)
        if pointer is None:
            raise MissingInput(
                f"no release is live in {self._paths.releases}: run `make demo`, or publish a run date first "
                "(./spark-submit.sh run_pipeline --run-date YYYY-MM-DD)"
            )
        return pointer

    def open(self, release_id: str) -> Snapshot:
        return open_release(release_folder(self._paths, release_id))

    async def open_aside(self, release_id: str, *, urgent: bool) -> Snapshot:
        return await open_release_aside(release_folder(self._paths, release_id), urgent=urgent)

    def blocked(self) -> Known:
        marks = [_mark(path) for path in (blocked_path(self._paths), copy_path(self._paths))]
        known_as, known = self._blocked
        # With a problem again each time: a disk that fails to read may do so later, of the same file.
        if marks != known_as or known.problem:
            self._blocked = (marks, known_blocked(self._paths))
        return self._blocked[1]

    def pulled(self) -> PullState | None:
        return read_pull_state(self._paths)


def _mark(path: Path) -> tuple[int, int]:
    """Another one whenever the file was replaced: it is only ever renamed over."""
    try:
        status = path.stat()
    except OSError as error:  # what cannot be read is for whoever reads it
        return (0, error.errno or 0)
    return (status.st_ino, status.st_mtime_ns)
