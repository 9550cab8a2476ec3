"""The data files of a release, byte by byte, against the checksums that were taken when it was published."""

from __future__ import annotations

from pathlib import Path

from recsys.lake import Lake
from recsys.monitoring.failures import UNREADABLE, reason_of
from recsys.monitoring.verdicts import Comparison, compared, skipped
from recsys.release.data_files import DATA_FILES_FILE, hash_files, read_data_files

ONE, OTHER = "data files", "published checksums"


def compare_files(lake: Lake, folder: Path) -> Comparison:
    """Every file that the answers of the release in ``folder`` lie in.

    Raises:
        CorruptArtifact: the list of checksums is damaged.
    """
    wanted = read_data_files(folder)
    if wanted is None:
        return skipped(ONE, OTHER, f"release {folder.name} has no {DATA_FILES_FILE}")
    problems = []
    for file, (digest, problem) in _hashes(lake, sorted(wanted)).items():
        if problem:
            problems.append(f"{file} cannot be read: {problem[:150]}")
        elif digest != wanted[file]:
            problems.append(
                f"{file} was changed: sha256 {digest[:16]}, published was {wanted[file][:16]}"
            )
    return compared(ONE, OTHER, checked=len(wanted), differing=len(problems), examples=problems)


def _hashes(lake: Lake, files: list[str]) -> dict[str, tuple[str, str]]:
    """Hash and problem of each; one by one where some file cannot be read."""
    try:
        found = hash_files(lake, files)
        return {file: (found.get(file, ""), "") for file in files}
    except UNREADABLE:
        return {file: _hash(lake, file) for file in files}


def _hash(lake: Lake, file: str) -> tuple[str, str]:
    try:
        return hash_files(lake, [file])[file], ""
    except UNREADABLE as error:
        return "", reason_of(error)
