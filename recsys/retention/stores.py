"""Folders beside the tables: models, their records and checkpoints, reports, scratch files, releases."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.errors import Conflict
from recsys.locks import exclusive
from recsys.records import MANIFEST_FILE
from recsys.release import shelf
from recsys.release.pointer import read_pointer
from recsys.retention.holds import Holds, before, recorded_fits, recorded_models

RECORD = re.compile(
    r"(?:trained|evaluated|scored)-(\d{4}-\d\d-\d\d)\.json|answers-(\d{4}-\d\d-\d\d)-\w+\.npz"
)
"""Of a night, and what models said that its training record names."""
DAY = re.compile(r"(\d{4}-\d\d-\d\d)(?:-.*)?")
REMOVING = ".removing-"


@dataclass(frozen=True)
class Store:
    """A folder of ``paths.root`` and how its old content is found."""

    name: str
    folder: Path
    old: Callable[[RecsysConfig, Holds, datetime], Iterator[Path]]

    def doomed(self, config: RecsysConfig, holds: Holds, now: datetime) -> list[Path]:
        """What goes: what is old, and what a killed run had begun to remove."""
        left = [path for path in _children(self.folder) if path.name.startswith(REMOVING)]
        return [*left, *(path for path in self.old(config, holds, now) if path not in left)]


def stores(paths: PathsConfig) -> tuple[Store, ...]:
    """Every store that is swept by the age of what is in it."""
    return (
        Store("checkpoints", paths.checkpoints, old_checkpoints),
        Store("models", paths.models, old_models),
        Store("reports", paths.reports, old_reports),
        Store("work", paths.work, old_work),
    )


def old_checkpoints(config: RecsysConfig, holds: Holds, now: datetime) -> Iterator[Path]:
    """Of nights that no record in force names: of those before, and of runs that were given up."""
    since = before(holds.reference, config.retention.model_days)
    named, oldest = recorded_fits(config.paths, since), _oldest_fit(config, since)
    for path in _children(config.paths.checkpoints):
        as_of = _day(path.name)
        if as_of and as_of < oldest and path.name not in named:
            yield path


def old_models(config: RecsysConfig, holds: Holds, now: datetime) -> Iterator[Path]:
    """Models that neither a release nor a record in force names; then records that are old themselves."""
    retention, paths = config.retention, config.paths
    since = before(holds.reference, retention.model_days)
    named = holds.models | recorded_models(paths, since)
    for path in _children(paths.models):
        record = RECORD.fullmatch(path.name)
        if record:
            night = date.fromisoformat(record[1] or record[2])
            if night < before(holds.reference, retention.record_days) and night not in holds.days:
                yield path
        elif path.is_dir() and path.name not in named:
            as_of = _fitted(path)
            # A folder without a manifest was being written when its process was killed.
            if as_of is None and _is_older(path, now, timedelta(days=retention.work_days)):
                yield path
            elif as_of is not None and as_of < _oldest_fit(config, since):
                yield path


def old_reports(config: RecsysConfig, holds: Holds, now: datetime) -> Iterator[Path]:
    oldest = before(holds.reference, config.retention.report_days)
    for path in _children(config.paths.reports):
        night = _day(path.name)
        if night and night < oldest:
            yield path


def old_work(config: RecsysConfig, holds: Holds, now: datetime) -> Iterator[Path]:
    """What nothing wrote into for days; one level deeper in the folder that scoring keeps its kits in."""
    age = timedelta(days=config.retention.work_days)
    for path in _children(config.paths.work):
        of_scoring = _children(path) if path.name == "scoring" and path.is_dir() else (path,)
        yield from (one for one in of_scoring if _is_older(one, now, age))


def remove(path: Path) -> None:
    """A folder first loses its name, so that what is left of it is taken for nothing else."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    doomed = path if path.name.startswith(REMOVING) else path.with_name(REMOVING + path.name)
    if doomed != path:
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
    shutil.rmtree(doomed)


def old_releases(config: RecsysConfig) -> list[str]:
    """What ``sweep_releases`` would remove."""
    live = read_pointer(config.paths)
    needed = {live.release_id, live.previous} if live else set()
    beyond = shelf.shelved_releases(config.paths)[config.publish.keep :]
    return [one.release_id for one in beyond if one.release_id not in needed]


def sweep_releases(config: RecsysConfig) -> tuple[list[str], str]:
    """Releases beyond ``publish.keep``, and what a killed publish left; and why not, where one is at work."""
    paths = config.paths
    try:
        with exclusive(paths.locks / "publish.lock", wait=False, what="a publish"):
            return [*shelf.sweep_leftovers(paths), *shelf.sweep_old(paths, config.publish.keep)], ""
    except Conflict as error:
        return [], str(error)


def size_of(folder: Path) -> int:
    """Bytes of all files below; what goes away meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _oldest_fit(config: RecsysConfig, since: date) -> date:
    """A night of ``since`` fits models as of days down to this one."""
    return config.evaluation.cut_offs(since).choosing


def _fitted(folder: Path) -> date | None:
    """The ``as_of`` of a model of either kind; None where its manifest is not there, or none."""
    try:
        return date.fromisoformat(json.loads((folder / MANIFEST_FILE).read_bytes())["as_of"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _day(name: str) -> date | None:
    found = DAY.fullmatch(name)
    try:
        return date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


def _is_older(path: Path, now: datetime, age: timedelta) -> bool:
    """Nothing in it was written for so long."""
    try:
        newest = max(
            one.stat().st_mtime for one in (path, *(path.rglob("*") if path.is_dir() else ()))
        )
    except FileNotFoundError:
        return False
    return datetime.fromtimestamp(newest, UTC) < now - age
