"""What the service asks of a release: stored lists by id, and where releases come from."""

from __future__ import annotations

from typing import Protocol

from recsys.config.places import PathsConfig
from recsys.errors import MissingInput
from recsys.release.pointer import Pointer, read_pointer, release_folder
from recsys.release.snapshot import Kind, Snapshot, open_release


class Store(Protocol):
    """One release, open for reading."""

    @property
    def release_id(self) -> str: ...

    def get(self, kind: Kind, id_: str) -> bytes | memoryview | None:
        """The stored list (``release.stored_list``) of a user, an item or a segment; '' is the whole shop."""
        ...

    def longest(self, kind: Kind) -> int:
        """Length of the longest list of this kind."""
        ...

    def count(self, kind: Kind) -> int: ...

    def close(self) -> None: ...


class Releases(Protocol):
    """Which release is live, and how to open one."""

    def live(self) -> Pointer:
        """Raises CorruptArtifact or MissingInput where that cannot be said."""
        ...

    def open(self, release_id: str) -> Store:
        """Verify and open. Raises CorruptArtifact where something is off."""
        ...


class PublishedReleases:
    """The releases of ``paths.releases``."""

    def __init__(self, paths: PathsConfig) -> None:
        self._paths = paths

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
