"""Taking old checkpoints away, so that at every moment one that verifies is left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from recsys.errors import CorruptArtifact
from recsys.failpoints import failpoint
from recsys.training.checkpoint.manifest import MANIFEST, Place, newest_first
from recsys.training.checkpoint.reading import Checkpoint


def prune(
    folder: Path, keep_newest: int, keep_epoch: int, *, just_written: Path | None = None
) -> None:
    """Delete old checkpoints, but neither the newest ``keep_newest`` nor the end of epoch ``keep_epoch``.

    Among what is kept is one whose every byte verifies: the newest is read to see that, and the next where it
    does not; ``just_written`` needs no reading, its bytes were hashed as they were written. A folder without a
    manifest was left by a process that was killed; one that is later than every whole checkpoint may be
    under way, and stays.
    """
    kept, good, any_whole = 0, False, False
    for place, path in newest_first(folder):
        found = _whole(path)
        if found is None:
            if any_whole:
                _remove(path)
            continue
        any_whole = True
        if kept < keep_newest or not good:
            kept += 1
            good = good or path == just_written or _verifies(found)
        elif not _is_end_of(keep_epoch, place) and path != just_written:
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


def _whole(path: Path) -> Checkpoint | None:
    try:
        found = Checkpoint.open(path)
        found.verify_sizes()
    except (CorruptArtifact, OSError):
        return None
    return found


def _verifies(found: Checkpoint) -> bool:
    try:
        found.verify()
    except (CorruptArtifact, OSError):
        return False
    return True


def _is_end_of(epoch: int, place: Place) -> bool:
    return (place.epoch, place.epoch_step) == (epoch, 0)
