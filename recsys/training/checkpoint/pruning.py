"""Taking old checkpoints away, so that at every moment one that verifies is left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from recsys.errors import CorruptArtifact
from recsys.failpoints import failpoint
from recsys.training.checkpoint.manifest import MANIFEST, newest_first
from recsys.training.checkpoint.reading import Checkpoint, whole_one


def prune(
    folder: Path, keep_newest: int, keep_epoch: int, *, key: str, just_written: Path | None = None
) -> None:
    """Delete old checkpoints, but neither the newest ``keep_newest`` nor the end of epoch ``keep_epoch``.

    Among what is kept is one whose every byte verifies: the newest is read to see that, and the next where it
    does not; ``just_written`` needs no reading, its bytes were hashed as they were written. What is later than it
    was passed over when the fit was taken up: it stays and takes nobody's place. A folder without a manifest was
    left by a process that was killed; one that is later than every whole checkpoint may be under way, and stays.
    A checkpoint of another fit than ``key`` is no better than one without a manifest.
    """
    kept, good, any_whole = 0, False, False
    passed_over = just_written is not None
    for place, path in newest_first(folder):
        passed_over = passed_over and path != just_written
        found = _whole(path, key)
        if found is None:
            if any_whole:
                _remove(path)
            continue
        any_whole = True
        if passed_over:
            continue
        if kept < keep_newest or not good:
            kept += 1
            good = good or path == just_written or _verifies(found)
        elif not place.is_end_of(keep_epoch):
            _remove(path)


def remove(folder: Path) -> None:
    """Take a fit's checkpoints away: first their name, at once, so that no fit resumes from what is left of them."""
    doomed = folder.with_name(f".removing-{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    if folder.exists():
        os.replace(folder, doomed)
        shutil.rmtree(doomed)


def _remove(path: Path) -> None:
    """Without its manifest it no longer exists, however much of it is left."""
    (path / MANIFEST).unlink(missing_ok=True)
    failpoint("checkpoint:prune_manifest_gone")
    shutil.rmtree(path)
    failpoint("checkpoint:pruned")


def _whole(path: Path, key: str) -> Checkpoint | None:
    try:
        return whole_one(path, key)
    except (CorruptArtifact, OSError):
        return None


def _verifies(found: Checkpoint) -> bool:
    try:
        found.verify()
    except (CorruptArtifact, OSError):
        return False
    return True
