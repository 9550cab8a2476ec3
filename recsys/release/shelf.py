"""The folder of releases: what lies there, what may be taken away, what a killed publish left behind."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact
from recsys.failpoints import failpoint
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import POINTER_FILE, Pointer, pointer_lock, read_pointer

BUILDING_PREFIX = ".building-"
REMOVING_PREFIX = ".removing-"
PULLING_PREFIX = ".pulling-"


@dataclass(frozen=True)
class Shelved:
    """One release on disk."""

    release_id: str
    folder: Path
    manifest: ReleaseManifest | None
    """None where the manifest is missing or damaged."""


def shelved_releases(paths: PathsConfig) -> list[Shelved]:
    """Every release on disk, the newest run date first, of one run date the newest built first."""
    if not paths.releases.exists():
        return []
    found = [
        _shelved(path) for path in paths.releases.iterdir() if path.is_dir() and path.name[0] != "."
    ]
    return sorted(
        found, key=lambda one: (one.release_id[:10], one.folder.stat().st_mtime_ns), reverse=True
    )


def _shelved(folder: Path) -> Shelved:
    try:
        return Shelved(folder.name, folder, ReleaseManifest.read(folder))
    except CorruptArtifact:
        return Shelved(folder.name, folder, None)


def sweep_leftovers(paths: PathsConfig, *, spare: str = "") -> list[str]:
    """Remove what a killed publish or pull left half made or half removed, but ``spare``; returns its names."""
    leftovers = sorted(
        path
        for prefix in (BUILDING_PREFIX, REMOVING_PREFIX, PULLING_PREFIX)
        for path in paths.releases.glob(f"{prefix}*")
        if path.name != spare
    )
    for path in leftovers:
        shutil.rmtree(path)
    return [path.name for path in leftovers]


def sweep_old(paths: PathsConfig, keep: int, *, spare: str = "") -> list[str]:
    """Remove all but the newest ``keep`` releases; never the live (or pinned), the previous one or ``spare``."""
    # A roll-back chooses under the same lock: what it finds on the shelf is not on its way out.
    with pointer_lock(paths):
        needed = _needed(read_pointer(paths)) | {spare}
        old = [one for one in shelved_releases(paths)[keep:] if one.release_id not in needed]
        doomed = [_set_aside(release.folder) for release in old]
        for unfinished in paths.releases.glob(f".{POINTER_FILE}.*"):  # of a swap that was killed
            unfinished.unlink()
    failpoint("shelf:set-aside")
    for folder in doomed:
        shutil.rmtree(folder)
    return [release.release_id for release in old]


def remove(folder: Path) -> None:
    """Take a release away: first its name, at once, then its files. A service that has it open keeps its map."""
    shutil.rmtree(_set_aside(folder))


def _set_aside(folder: Path) -> Path:
    """Give a release a name that no list shows and ``sweep_leftovers`` knows; returns where it lies."""
    doomed = folder.with_name(REMOVING_PREFIX + folder.name)
    if doomed.exists():
        shutil.rmtree(doomed)
    os.rename(folder, doomed)
    return doomed


def _needed(pointer: Pointer | None) -> set[str]:
    return set() if pointer is None else {pointer.release_id, pointer.previous}
