"""What must stay, whatever its age: for the releases on the shelf, the night at hand and the jobs that run."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.contracts import EVENTS
from recsys.errors import ContractError
from recsys.records import EvaluationRecord, ScoringRecord, TrainingRecord
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import read_pointer
from recsys.release.shelf import shelved_releases

JOB_LOCK = re.compile(r"run-(?P<job>\w+?)-(?P<run_date>\d{4}-\d\d-\d\d)\.lock")
OWN = "clean_up"


@dataclass(frozen=True)
class RunningJob:
    """A job that holds its lock on this host."""

    name: str
    run_date: date
    since: datetime

    def __str__(self) -> str:
        return f"{self.name} of {self.run_date}"


@dataclass(frozen=True)
class Holds:
    """What stays."""

    reference: date
    """The day that days are counted back from."""
    releases: tuple[ReleaseManifest, ...]
    """On the shelf: the live one, the one before, what is pinned, and what can be rolled back to."""
    running: tuple[RunningJob, ...]
    first_day: date
    """What is as of this day or a later one may be read by the night of ``reference``, or by a running job."""

    def versions(self, table: str) -> Mapping[int, str]:
        """Versions of a table that releases name, or were computed from -> one of these releases."""
        found = {}
        for release in reversed(self.releases):
            if release.inputs and table in release.inputs.versions:
                found[release.inputs.versions[table]] = release.release_id
            if (
                table == EVENTS.name
                and release.inputs
                and release.inputs.events_version is not None
            ):
                found[release.inputs.events_version] = release.release_id
            if table in release.tables:
                found[release.tables[table].version] = release.release_id
        return found

    @property
    def days(self) -> frozenset[date]:
        """Days that releases were made for and computed from, and of the models that made them."""
        named = ((one.run_date, one.inputs_as_of, one.model.as_of) for one in self.releases)
        return frozenset(day for days in named for day in days)

    @property
    def models(self) -> frozenset[str]:
        named = ((one.model.version, one.model.ranking_version) for one in self.releases)
        return frozenset(version for versions in named for version in versions)

    @property
    def running_since(self) -> datetime | None:
        """When the first of the running jobs began."""
        return min((job.since for job in self.running), default=None)


def holds(config: RecsysConfig, run_date: date) -> Holds:
    """What stays on the night of ``run_date``.

    A shop that stands still keeps what it has: days are counted from the live release's run date where that is older.

    Raises:
        CorruptArtifact: the pointer cannot be read, so that nobody knows what is live.
        ContractError: a release's manifest cannot be read, so that nobody knows what it needs.
    """
    paths = config.paths
    live = read_pointer(paths)
    reference = min(run_date, live.run_date) if live else run_date
    shelved = shelved_releases(paths)
    if unknown := [one.folder for one in shelved if one.manifest is None]:
        raise ContractError(
            f"nothing is cleaned up: the manifest of {unknown[0]} cannot be read, so nobody knows which versions "
            "of the tables it needs; publish its run date again, or move the folder away"
        )
    running = running_jobs(paths)
    nights = (reference, *(job.run_date for job in running))
    return Holds(
        reference=reference,
        releases=tuple(one.manifest for one in shelved if one.manifest),
        running=running,
        first_day=min(config.evaluation.cut_offs(night).choosing for night in nights),
    )


def running_jobs(paths: PathsConfig) -> tuple[RunningJob, ...]:
    """Jobs of a run date that hold their lock on this host, but this one."""
    found = []
    for path in sorted(paths.locks.glob("run-*.lock")):
        job = JOB_LOCK.fullmatch(path.name)
        if job and job["job"] != OWN and _is_held(path):
            since = datetime.fromtimestamp(
                path.stat().st_mtime, UTC
            )  # the holder wrote its id then
            found.append(RunningJob(job["job"], date.fromisoformat(job["run_date"]), since))
    return tuple(found)


def _is_held(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def recorded_models(paths: PathsConfig, since: date) -> frozenset[str]:
    """Models that the records of nights from ``since`` on name."""
    named: set[str] = set()
    for night in _nights(TrainingRecord.run_dates(paths), since):
        training = TrainingRecord.read(paths, night)
        named |= {*training.models.values(), *training.ranking.values()}
    for night in _nights(EvaluationRecord.run_dates(paths), since):
        evaluation = EvaluationRecord.read(paths, night)
        named |= {evaluation.model_version, evaluation.ranking_version}
    for night in _nights(ScoringRecord.run_dates(paths), since):
        scoring = ScoringRecord.read(paths, night)
        named |= {scoring.model_version, scoring.ranking_version}
    return frozenset(named)


def recorded_fits(paths: PathsConfig, since: date) -> frozenset[str]:
    """Checkpoint folders that training records of nights from ``since`` on name."""
    nights = _nights(TrainingRecord.run_dates(paths), since)
    return frozenset(
        fit for night in nights for fit in TrainingRecord.read(paths, night).fits.values()
    )


def _nights(nights: Sequence[date], since: date) -> list[date]:
    return [night for night in nights if night >= since]


def before(day: date, days: int) -> date:
    return day - timedelta(days=days)
