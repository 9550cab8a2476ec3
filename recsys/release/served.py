"""The table ``served_history``: what each user was offered by each release that was live."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from recsys.config.places import PathsConfig
from recsys.contracts import SERVED_HISTORY, TOP_N_LISTS
from recsys.errors import CorruptArtifact, MissingInput
from recsys.lake import Lake
from recsys.lake.tables import Values
from recsys.release.actions import read_actions
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import read_pointer, release_folder

log = structlog.get_logger()

SERVED = 10
"""Places of a list that are kept: what a customer sees without asking for more."""


def were_live(paths: PathsConfig) -> list[ReleaseManifest]:
    """Releases that customers were given, by publish, roll-back or pin, and that are on the shelf still."""
    live = read_pointer(paths)
    ids = [one.release_id for one in read_actions(paths) if one.action != "held"]
    if live:  # a publish that was killed left its pointer and no line
        ids += [live.previous, live.release_id]
    found = []
    for release_id in dict.fromkeys(filter(None, ids)):
        folder = release_folder(paths, release_id)
        if folder.exists():
            try:
                found.append(ReleaseManifest.read(folder))
            except CorruptArtifact as error:
                log.warning("served_not_recorded", release=release_id, problem=str(error))
    return found


def write_served(lake: Lake, were_live: Iterable[ReleaseManifest]) -> list[str]:
    """Keep the first places of every list of the releases that were live; returns those that were not kept yet.

    For releases that the pointer named, and has named: one that is built and held was never served. One whose lists
    can no longer be read is left out with a warning: the release that was just published is live all the same.
    """
    releases = {one.release_id: one for one in were_live}
    kept = lake.read_or_empty(SERVED_HISTORY).where(F.col("release_id").isin(list(releases)))
    have = {row["release_id"] for row in kept.select("release_id").distinct().collect()}
    written = []
    for release_id, manifest in releases.items():
        if release_id in have:
            continue
        try:
            _write(lake, manifest)
        except (PySparkException, Py4JJavaError, MissingInput) as error:
            problem = str(error).partition("\n")[0][:300]
            log.warning("served_not_recorded", release=release_id, problem=problem)
        else:
            written.append(release_id)
    return written


def _write(lake: Lake, manifest: ReleaseManifest) -> None:
    version = manifest.tables[TOP_N_LISTS.name].version
    lists = lake.read(TOP_N_LISTS, version=version, as_of=manifest.run_date)
    served = lists.select(
        F.lit(manifest.release_id).alias("release_id"),
        F.lit(manifest.run_date).alias("run_date"),
        "user_id",
        F.slice("item_ids", 1, SERVED).alias("item_ids"),
        F.slice("sources", 1, SERVED).alias("sources"),
        "model_version",
    )
    release: dict[str, Values] = {"run_date": manifest.run_date, "release_id": manifest.release_id}
    lake.replace(served, SERVED_HISTORY, release)
