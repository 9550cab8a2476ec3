"""The copies of a release's answers, compared; what was found goes to the table ``consistency``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from functools import partial

import structlog
from pyspark.sql import DataFrame

from recsys.blocked import blocked_items
from recsys.config import RecsysConfig
from recsys.contracts import CONSISTENCY, TOP_N_LISTS
from recsys.errors import CorruptArtifact, MissingInput
from recsys.lake import Lake, local_rows, struct_type
from recsys.monitoring import files
from recsys.monitoring.failures import or_unreadable
from recsys.monitoring.fresh import compare_fresh
from recsys.monitoring.lists import Copies, compare_lists, names_of
from recsys.monitoring.matrix import ONE, OTHER, compare_matrix
from recsys.monitoring.service import compare_service
from recsys.monitoring.snapshot_pairs import asking
from recsys.monitoring.tables import (
    MANIFEST,
    MODEL,
    TABLES,
    compare_model,
    compare_tables,
)
from recsys.monitoring.verdicts import Comparison, compared, skipped
from recsys.release.lists import Lists, list_sources, snapshot_options
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import live_release, release_folder
from recsys.release.snapshot import (
    CHECKED_FILES,
    DATA_FILE,
    LIST_KINDS,
    Kind,
    Snapshot,
    verify_checksums,
)

log = structlog.get_logger()

SNAPSHOT, CHECKSUMS, FRESH = "snapshot", "checksums", "fresh scores"


def audit(lake: Lake, config: RecsysConfig, run_date: date, *, now: datetime) -> list[Comparison]:
    """Compare all copies of what is live, and write down what was found.

    Raises:
        MissingInput: nothing is live.
        CorruptArtifact: copies differ or cannot be read; the message names them, the table has it.
    """
    manifest = live_release(config.paths)
    if manifest is None:
        raise MissingInput(f"nothing to audit: no release is live in {config.paths.releases}")
    found = []
    for one in comparisons(lake, config, manifest, run_date):
        say = log.error if one.is_bad else log.info
        say(
            "copies_compared", one_copy=one.one_copy, other_copy=one.other_copy, verdict=one.verdict,
            checked=one.checked, differing=one.differing, reason=one.reason,
        )  # fmt: skip
        found.append(one)
    _write(lake, manifest, run_date, found, now)
    if bad := [one for one in found if one.is_bad]:
        raise CorruptArtifact(
            f"release {manifest.release_id} is not what it was published as:\n  "
            + "\n  ".join(map(str, bad))
            + f"\nThe table {CONSISTENCY.name} has all of it; docs/runbook.md says what to do"
        )
    return found


def comparisons(
    lake: Lake, config: RecsysConfig, manifest: ReleaseManifest, run_date: date
) -> Iterator[Comparison]:
    """Each two copies, as they are compared; one that cannot be read spoils no other."""
    paths = config.paths
    yield or_unreadable(TABLES, MANIFEST, partial(compare_tables, lake, manifest))
    folder = release_folder(paths, manifest.release_id)
    yield or_unreadable(files.ONE, files.OTHER, partial(files.compare_files, lake, folder))
    yield or_unreadable(MODEL, MANIFEST, partial(compare_model, paths, manifest))
    yield or_unreadable(ONE, OTHER, partial(compare_matrix, lake, manifest, paths.models))
    of_files = or_unreadable(SNAPSHOT, CHECKSUMS, partial(compare_snapshot, config, manifest))
    yield of_files
    yield from _of_lists(lake, config, manifest, is_whole=not of_files.is_bad)
    yield from _of_services(config, manifest, run_date, is_whole=not of_files.is_bad)
    fresh: Callable[[], Comparison] = partial(compare_fresh, lake, config, manifest)
    yield or_unreadable(FRESH, f"table {TOP_N_LISTS.name}", fresh)


def compare_snapshot(config: RecsysConfig, manifest: ReleaseManifest) -> Comparison:
    """The files of the release, byte by byte."""
    folder = release_folder(config.paths, manifest.release_id)
    try:
        checked = verify_checksums(folder)
    except CorruptArtifact as error:
        return compared(
            SNAPSHOT, CHECKSUMS, checked=len(CHECKED_FILES), differing=1, examples=[str(error)]
        )
    return compared(SNAPSHOT, CHECKSUMS, checked=checked, differing=0, examples=())


def _of_lists(
    lake: Lake, config: RecsysConfig, manifest: ReleaseManifest, *, is_whole: bool
) -> Iterator[Comparison]:
    folder = release_folder(config.paths, manifest.release_id)
    kinds = LIST_KINDS
    if is_whole:
        with Snapshot(folder) as snapshot:  # an older format has not all kinds
            kinds = tuple(kind for kind in LIST_KINDS if kind in snapshot.meta.kinds)
    versions = {name: table.version for name, table in manifest.tables.items()}
    # As it was built, whatever conf says now; an older release does not say.
    built_with = manifest.snapshot or snapshot_options(config)
    sources = list_sources(
        lake, config, versions, manifest.run_date,
        inputs_as_of=manifest.inputs_as_of, category_n=built_with["category_n"],
    )  # fmt: skip
    with asking(is_whole=is_whole) as ask:
        copies = Copies(lake, manifest, folder, ask)
        for kind, rows in sources.items():
            if kind in kinds:
                yield or_unreadable(*names_of(kind), partial(_compare, copies, kind, rows))


def _compare(copies: Copies, kind: Kind, rows: Callable[[], DataFrame]) -> Comparison:
    """Whose tables are opened here: a version that is gone is told of this kind alone."""
    return compare_lists(copies, Lists(kind, rows()))


def _of_services(
    config: RecsysConfig, manifest: ReleaseManifest, run_date: date, *, is_whole: bool
) -> Iterator[Comparison]:
    folder = release_folder(config.paths, manifest.release_id)
    if not config.audit.services:
        yield skipped("service", "snapshot users", "audit.services names none")
    for url in config.audit.services:
        name = f"service {url}"
        if not is_whole:
            yield skipped(name, "snapshot users", f"{DATA_FILE} is damaged")
            continue
        yield or_unreadable(
            name,
            "snapshot users",
            lambda url=url: compare_service(  # type: ignore[misc]
                url, folder, config.audit,
                blocked=frozenset(blocked_items(config.paths)),
                api_key=config.serving.api_key.get_secret_value(), turn=run_date.toordinal(),
            ),
        )  # fmt: skip


def _write(
    lake: Lake, manifest: ReleaseManifest, run_date: date, found: list[Comparison], now: datetime
) -> None:
    rows = [
        (
            run_date, manifest.release_id, one.one_copy, one.other_copy, one.checked, one.differing,
            list(one.examples), one.verdict, one.reason, now,
        )
        for one in found
    ]  # fmt: skip
    lake.replace(
        local_rows(lake.spark, rows, struct_type(CONSISTENCY)), CONSISTENCY, {"run_date": run_date}
    )
