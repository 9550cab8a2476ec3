"""Publish: data first, manifest and checksums beside it, the pointer swapped last, then the table's row."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import structlog
from pyspark.sql import functions as F

from recsys.blocked import keep_copy
from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.contracts import RELEASES, TOP_N_LISTS
from recsys.errors import CorruptArtifact, MissingInput, Refused
from recsys.failpoints import failpoint
from recsys.lake import Lake, local_rows, struct_type
from recsys.locks import exclusive
from recsys.records import MODEL_CARD_FILE, ScoringRecord, sha256_of, write_atomically
from recsys.release import facts, shelf
from recsys.release.actions import Action, append_action, read_actions
from recsys.release.announcement import announce
from recsys.release.coverage import check_coverage
from recsys.release.data_files import write_data_files
from recsys.release.inputs import release_inputs
from recsys.release.lists import (
    PUBLISHED,
    Lists,
    published_lists,
    snapshot_options,
    stored_chunks,
)
from recsys.release.manifest import ReleaseManifest, content_id
from recsys.release.opening import open_release
from recsys.release.pins import remember_published
from recsys.release.pointer import (
    Pointer,
    next_epoch,
    pointer_lock,
    read_pointer,
    release_folder,
    write_pointer,
)
from recsys.release.pull_state import refuse_where_pulled
from recsys.release.remote import open_target
from recsys.release.served import were_live, write_served
from recsys.release.snapshot import (
    CARD_FILE,
    CHECKED_FILES,
    CHECKSUMS_FILE,
    LIST_KINDS,
    MANIFEST_FILE,
    Snapshot,
)
from recsys.release.snapshot_builder import SnapshotBuilder, sync_folder
from recsys.release.stored_list import decode

log = structlog.get_logger()

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DECODED_SAMPLE = 1000
"""Stored lists of each kind that are read back before the pointer moves."""


@dataclass(frozen=True)
class Published:
    """What one publish did."""

    manifest: ReleaseManifest
    built: bool
    """False when this very release was on disk already."""
    live: bool
    """False when it is held back; ``reason`` says why."""
    reason: str


def publish(lake: Lake, config: RecsysConfig, run_date: date, *, now: datetime) -> Published:
    """Make the lists of ``run_date`` a release, and make it live unless another one is pinned or newer.

    The same content again is a no-op that completes whatever an interrupted publish left undone.

    Raises:
        MissingInput: the lists of ``run_date`` were never scored.
        Refused: the lists are of too few users, or the snapshot failed its checks, and the old release is live as
            before; or ``publish.url`` has a newer announcement, and all else is done.
        Unreachable: ``publish.url`` does not answer; all else is done.
        ConfigError: this host pulls its releases, or ``publish.url`` is no place to publish to.
        Conflict: another publish is running.
    """
    paths = config.paths
    target = open_target(config.publish.url) if config.publish.url else None
    with exclusive(paths.locks / "publish.lock", wait=False, what="a publish"):
        refuse_where_pulled(paths, "a publish")
        read_pointer(
            paths
        )  # an unreadable pointer may hide a pin: refuse before the work, not after it
        keep_copy(paths)
        if swept := shelf.sweep_leftovers(paths):
            log.info("leftovers_swept", folders=swept)
        scoring = ScoringRecord.read(paths, run_date)
        manifest, lists = _describe(lake, config, run_date, scoring)
        failpoint("publish:described")
        if _would_be_swapped_in(paths, manifest):
            check_coverage(paths, manifest, config.publish.min_users_share)
        folder = release_folder(paths, manifest.release_id)
        built = not _is_whole(folder)
        if built:
            card = paths.models / manifest.model.version / MODEL_CARD_FILE
            _build(folder, manifest, lists, model_card=card)
        else:
            manifest = ReleaseManifest.read(folder)
        write_data_files(lake, paths, manifest)
        held = _go_live(paths, manifest, now)
        failpoint("publish:before-table")
        _record(lake, paths, manifest)
        failpoint("publish:after-table")
        write_served(lake, were_live(paths))
        failpoint("publish:after-served")
        if removed := shelf.sweep_old(paths, config.publish.keep, spare=manifest.release_id):
            log.info("releases_removed", releases=removed)
        if target:
            # What is live, be it this release or the one that holds it back: what was left undone is completed.
            announce(paths, target, keep=config.publish.keep)
        return Published(manifest, built, not held, held)


def _describe(
    lake: Lake, config: RecsysConfig, run_date: date, scoring: ScoringRecord
) -> tuple[ReleaseManifest, list[Lists]]:
    """The manifest that this content must have, and the lists to build from."""
    missing = [table.name for table in PUBLISHED.values() if not lake.exists(table)]
    if missing:
        raise MissingInput(
            f"nothing to publish: no table {', '.join(missing)}; run score_top_n first"
        )
    tables = facts.facts_of_release(lake, config, run_date, scoring)
    versions = {name: table.version for name, table in tables.items()}
    if not tables[TOP_N_LISTS.name].rows:
        raise MissingInput(
            f"top_n_lists has no rows as of {run_date}: run score_top_n for it first"
        )
    model = facts.model_facts(config.paths, scoring)
    options = snapshot_options(config)
    release_id, digest = content_id(run_date, tables, model, scoring.recipe, options)
    lists = published_lists(lake, config, versions, run_date, inputs_as_of=scoring.inputs_as_of)
    users = next(one.rows for one in lists if one.kind == "users")
    manifest = ReleaseManifest(
        release_id=release_id,
        run_date=run_date,
        shop=config.shop.name,
        content_hash=digest,
        tables=tables,
        lists={name: one.name for name, one in PUBLISHED.items() if one.name in tables},
        model=model,
        recipe=scoring.recipe,
        config_hash=facts.config_hash(config),
        code=facts.code_version(),
        accepted_volumes=facts.accepted_volumes(lake, run_date),
        golden_users=facts.golden_users(users, config.publish.golden_users),
        counts=facts.key_counts(lists, tables),
        inputs=release_inputs(lake, scoring, tables),
        snapshot=options,
        users_with_a_list=facts.users_with_a_list(users),
    )
    return manifest, lists


def _is_whole(folder: Path) -> bool:
    """Whether this release lies on disk, complete and undamaged."""
    if not folder.exists():
        return False
    try:
        open_release(folder).close()
    except CorruptArtifact as error:
        log.warning("release_rebuilt", release=folder.name, problem=str(error))
        return False
    return True


def _build(
    folder: Path, manifest: ReleaseManifest, lists: list[Lists], *, model_card: Path
) -> None:
    """Build beside, verify, then give it its name."""
    started = time.monotonic()
    building = folder.with_name(f"{shelf.BUILDING_PREFIX}{folder.name}")
    with SnapshotBuilder(building, manifest.release_id) as builder:
        for one in lists:
            builder.add(one.kind, stored_chunks(one, manifest.counts[one.kind]))
            failpoint(f"publish:wrote-{one.kind}")
            log.info("snapshot_part_written", kind=one.kind, keys=manifest.counts[one.kind])
        builder.finish()
    write_atomically(building / MANIFEST_FILE, manifest.to_json().encode())
    files = [*CHECKED_FILES]
    if model_card.is_file():
        write_atomically(building / CARD_FILE, model_card.read_bytes())
        files.append(CARD_FILE)
    sums = [f"{sha256_of(building / name)}  {name}\n" for name in files]
    write_atomically(building / CHECKSUMS_FILE, "".join(sums).encode())
    failpoint("publish:after-snapshot")
    _verify(building)
    failpoint("publish:after-verify")
    if folder.exists():
        shelf.remove(folder)  # damaged: _is_whole said so
    os.rename(building, folder)
    failpoint("publish:after-rename")
    sync_folder(folder.parent)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    seconds = round(time.monotonic() - started, 1)
    log.info("snapshot_built", release=folder.name, megabytes=round(size / 1e6, 1), seconds=seconds)


def _verify(building: Path) -> None:
    """Checksums, counts and golden users as a service checks them, and a sample read back.

    Raises:
        Refused: something differs; nothing was published.
    """
    with open_release(building) as snapshot:
        for kind in LIST_KINDS:
            for value in snapshot.sample(kind, DECODED_SAMPLE):
                decode(value, kind)
        _has_popular(snapshot)


def _has_popular(snapshot: Snapshot) -> None:
    value = snapshot.get("segments", "")
    if value is None or not decode(value, "segments"):
        raise Refused(
            f"release {snapshot.release_id} is not published: popular_items has no rows for the whole shop "
            "(segment ''), so an unknown user would get nothing; run score_top_n again"
        )


def _go_live(paths: PathsConfig, manifest: ReleaseManifest, now: datetime) -> str:
    """Swap the pointer, unless a pin or a newer release holds it; returns why it was held, or ''."""
    release_id = manifest.release_id
    with pointer_lock(paths):
        live = read_pointer(paths)
        held = _reason_to_hold(live, manifest)
        if held:
            _remember_held(paths, manifest, held, now)
            log.warning("release_held", release=release_id, reason=held)
            return held
        if live is None or live.release_id != release_id:
            failpoint("publish:before-pointer")
            live = Pointer(
                release_id=release_id,
                previous=live.release_id if live else "",
                at=now,
                epoch=next_epoch(paths, live),
            )
            write_pointer(paths, live)
            failpoint("publish:after-pointer")
            log.info("release_live", release=release_id, previous=live.previous)
        else:
            log.info("release_live_already", release=release_id)
        remember_published(paths, live, manifest)
    return ""


def _would_be_swapped_in(paths: PathsConfig, manifest: ReleaseManifest) -> bool:
    live = read_pointer(paths)
    if live is not None and live.release_id == manifest.release_id:
        return False
    return not _reason_to_hold(live, manifest)


def _reason_to_hold(live: Pointer | None, manifest: ReleaseManifest) -> str:
    if live is None or live.release_id == manifest.release_id:
        return ""
    if live.pinned:
        because = f" ({live.reason})" if live.reason else ""
        return f"{live.release_id} is pinned{because}: `recsys release unpin`, then publish again"
    if live.run_date > manifest.run_date:
        return (
            f"{live.release_id} is live and of a later run date; to serve this one all the same: "
            f"recsys release roll-back --to {manifest.release_id}"
        )
    return ""


def _remember_held(paths: PathsConfig, manifest: ReleaseManifest, held: str, now: datetime) -> None:
    known = {(one.release_id, one.action) for one in read_actions(paths)}
    if (manifest.release_id, "held") not in known:
        append_action(paths, Action.of(manifest, "held", at=now, reason=held))


def _record(lake: Lake, paths: PathsConfig, manifest: ReleaseManifest) -> None:
    """Copy into ``releases`` every action that is not there yet, those of the console command too."""
    table = lake.read_or_empty(RELEASES).select("release_id", "action", F.unix_micros("at"))
    have = {tuple(row) for row in table.collect()}
    new = [
        one
        for one in read_actions(paths)
        if (one.release_id, one.action, (one.at - EPOCH) // timedelta(microseconds=1)) not in have
    ]
    if not new:
        return
    rows = [
        (
            one.release_id, one.run_date, one.action, one.at, one.model_version, one.model_age_days,
            one.reason, _manifest_text(paths, one.release_id),
        )
        for one in new
    ]  # fmt: skip
    written = lake.append(local_rows(lake.spark, rows, struct_type(RELEASES)), RELEASES)
    log.info("table_written", table=written.table, version=written.version, rows=written.rows)


def _manifest_text(paths: PathsConfig, release_id: str) -> str:
    path = release_folder(paths, release_id) / MANIFEST_FILE
    return path.read_text() if path.exists() else "{}"
