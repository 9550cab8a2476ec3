"""Pull: bring the release that a URL announces to this host, verify it, make it live here, keep two.

A release is downloaded beside the live one under a name that no service looks at. A download that was cut goes
on where it stopped; only a release whose checksums and golden users agree gets its name, and the pointer after
it. While the source is down the host serves what it has.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from recsys.blocked import BLOCKED_FILE, replace_by_pulled
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError, CorruptArtifact, Refused
from recsys.failpoints import failpoint
from recsys.locks import exclusive
from recsys.release.actions import actions_path
from recsys.release.opening import open_release
from recsys.release.pointer import (
    Pointer,
    pointer_lock,
    pointer_path,
    read_pointer,
    release_folder,
    write_pointer,
)
from recsys.release.remote import Source, Unreachable
from recsys.release.shelf import PULLING_PREFIX, remove, sweep_leftovers, sweep_old
from recsys.release.snapshot import CHECKED_FILES, CHECKSUMS_FILE, MANIFEST_FILE, files_of
from recsys.release.snapshot_builder import sync_folder

log = structlog.get_logger()

SPARE_BYTES = 64 << 20
"""Stays free on the disk beside what is downloaded."""

Report = Callable[[str, int, int], None]
"""Called with a file's name, its bytes that are here, and all of its bytes."""


@dataclass(frozen=True)
class Pulled:
    """What one pull did."""

    pointer: Pointer
    """What is live here now."""
    moved: bool
    """Whether that is new."""
    downloaded_bytes: int
    removed: tuple[str, ...]
    problem: str = ""
    """What was wrong beside the release: the blocked items at the source are damaged, those known here stay."""


def pull(
    paths: PathsConfig, source: Source, announced: Pointer, report: Report = lambda *_: None
) -> Pulled:
    """Make live here what ``source`` announces; what is live already costs one more small read.

    Raises:
        Unreachable: the source does not answer; what was downloaded is kept for the next try.
        Refused: the announcement is older than what is live here, or the disk is too full.
        CorruptArtifact: the release is damaged, and what was live stays.
        ConfigError: this host publishes releases itself.
        Conflict: another pull runs on this host.
    """
    if actions_path(paths).exists():
        raise ConfigError(
            f"{paths.releases} holds releases that were published there, not pulled: pull into another folder "
            f"(--set paths.root=…), or move {actions_path(paths)} away to make this a host that pulls"
        )
    with exclusive(paths.locks / "pull.lock", wait=False, what="a pull"):
        check_is_newer(paths, source, announced)
        problem = ""
        try:
            pull_blocked(paths, source)
        except CorruptArtifact as error:
            problem = str(error)  # no reason to keep a release back
        here = _live_here(paths)
        if here and here.epoch == announced.epoch and _has_manifest(paths, here.release_id):
            pulled = Pulled(here, False, 0, (), problem)
        else:
            downloaded = _bring(paths, source, announced.release_id, report)
            pointer = _swap(paths, announced)
            removed = sweep_old(paths, keep=0)  # but the live and the previous one
            pulled = Pulled(pointer, here != pointer, downloaded, tuple(removed), problem)
            log.info(
                "release_pulled", release=pointer.release_id, epoch=pointer.epoch, url=source.url
            )
        return pulled


def pull_blocked(paths: PathsConfig, source: Source) -> bool:
    """Take over the items that are blocked where releases are published; returns whether that changed any.

    Raises:
        Unreachable: the source does not answer.
        CorruptArtifact: what it has is no list of blocked items; the one that is here stays.
    """
    content = source.read(BLOCKED_FILE)
    return content is not None and replace_by_pulled(paths, content, f"{source.url}/{BLOCKED_FILE}")


def _live_here(paths: PathsConfig) -> Pointer | None:
    try:
        return read_pointer(paths)
    except CorruptArtifact as error:
        log.warning("pointer_replaced", problem=str(error))
        return None


def check_is_newer(paths: PathsConfig, source: Source, announced: Pointer) -> None:
    """A source that was restored from a backup, or lags behind, must not take hosts back.

    Raises:
        Refused: what is live here is newer.
    """
    here = _live_here(paths)
    if here is None or announced.epoch > here.epoch:
        return
    if announced.epoch == here.epoch and announced.release_id == here.release_id:
        return
    raise Refused(
        f"{source.url} announces {announced.release_id} with epoch {announced.epoch}, but {here.release_id} is live "
        f"here with epoch {here.epoch}: an older announcement, or another publisher's; {here.release_id} stays. "
        "Where releases are published, `recsys release announce --take-over` makes that publisher the newest; to "
        f"follow this URL all the same, remove {pointer_path(paths)} on this host"
    )


def _has_manifest(paths: PathsConfig, release_id: str) -> bool:
    return (release_folder(paths, release_id) / MANIFEST_FILE).is_file()


def _bring(paths: PathsConfig, source: Source, release_id: str, report: Report) -> int:
    """Have the release here, whole, under its name; returns the bytes that this took."""
    folder = release_folder(paths, release_id)
    if folder.exists():
        try:
            open_release(folder).close()
            return 0  # a roll-back to the one before, or a pull that was killed before its swap
        except CorruptArtifact as error:
            log.warning("release_pulled_again", release=release_id, problem=str(error))
    pulling = folder.with_name(f"{PULLING_PREFIX}{release_id}")
    sweep_leftovers(paths, spare=pulling.name)
    sweep_old(paths, keep=0, spare=release_id)  # one that was brought here and never became live
    try:
        downloaded = _download(source, release_id, pulling, report)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        shutil.rmtree(
            pulling, ignore_errors=True
        )  # the services of this host need a place for their logs
        raise Refused(_disk_is_full(folder.parent, release_id, "did not fit")) from None
    failpoint("pull:after-download")
    try:
        snapshot = open_release(pulling)
    except CorruptArtifact:
        shutil.rmtree(pulling)  # the next try starts over
        raise
    found = snapshot.release_id
    snapshot.close()
    if found != release_id:
        shutil.rmtree(pulling)
        raise CorruptArtifact(
            f"{source.url}/{release_id} holds release {found}: publish its run date again"
        )
    if folder.exists():
        remove(folder)
    os.rename(pulling, folder)
    sync_folder(folder.parent)
    failpoint("pull:before-pointer")
    return downloaded


def _download(source: Source, release_id: str, pulling: Path, report: Report) -> int:
    sums = source.read(f"{release_id}/{CHECKSUMS_FILE}")
    if sums is None:
        raise Unreachable(
            f"{source.url} announces {release_id}, but its {CHECKSUMS_FILE} is not there (any more)"
        )
    kept = pulling / CHECKSUMS_FILE
    if pulling.exists() and (not kept.exists() or kept.read_bytes() != sums):
        log.info("download_starts_over", release=release_id, because="the source has changed")
        shutil.rmtree(pulling)
    sizes = _sizes(source, release_id, files_of(sums.decode(errors="replace")))
    for name in sizes:
        (pulling / name).parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(sums)
    have = {name: _size_here(pulling / name) for name in sizes}
    missing = sum(max(sizes[name] - have[name], 0) for name in sizes)
    _check_free_disk(pulling, release_id, missing)
    log.info(
        "download_starts", release=release_id, url=source.url,
        megabytes=round(missing / 1e6, 1), megabytes_here=round(sum(have.values()) / 1e6, 1),
    )  # fmt: skip
    for name, size in sizes.items():
        _fetch(source, f"{release_id}/{name}", pulling / name, size, report)
    for folder in {(pulling / name).parent for name in sizes}:
        sync_folder(folder)
    return missing


def _sizes(source: Source, release_id: str, names: Sequence[str]) -> dict[str, int]:
    """In bytes; without what a release can do without, where the source has lost it."""
    sizes = {}
    for name in names:
        size = source.size(f"{release_id}/{name}")
        if size is not None:
            sizes[name] = size
        elif name in CHECKED_FILES:
            raise Unreachable(
                f"{source.url}/{release_id}/{name} is announced, but not there (any more)"
            )
    return sizes


def _size_here(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_free_disk(pulling: Path, release_id: str, needed: int) -> None:
    free = shutil.disk_usage(pulling).free
    if needed + SPARE_BYTES > free:
        needs = f"needs {needed / 1e6:,.0f} MB more"
        raise Refused(_disk_is_full(pulling.parent, release_id, needs))


def _disk_is_full(releases: Path, release_id: str, what: str) -> str:
    free = shutil.disk_usage(releases).free
    return (
        f"the disk of {releases} is too full for release {release_id}: it {what}, {free / 1e6:,.0f} MB are free, and "
        f"{SPARE_BYTES / 1e6:,.0f} MB stay free; what is live stays. Free some, or move paths.root to a larger disk: "
        "a host holds the live, the previous and the coming release"
    )


def _fetch(source: Source, name: str, path: Path, size: int, report: Report) -> None:
    """Append what is missing. A cut connection is taken up at once while each one brings something."""
    have = _size_here(path)
    if have > size:
        path.unlink()
        have = 0
    with open(path, "ab") as file:
        report(name, have, size)
        while have < size:
            before, cut = have, None
            try:
                for chunk in source.chunks(name, have):
                    if have + len(chunk) > size:
                        raise Unreachable(
                            f"{source.url}/{name} is longer than the {size:,} bytes that the source said"
                        )
                    file.write(chunk)
                    have += len(chunk)
                    report(name, have, size)
                    failpoint("pull:mid-download")
            except Unreachable as error:
                cut = error
            if have == before:
                raise cut or Unreachable(
                    f"{source.url}/{name} ends after {have:,} of {size:,} bytes"
                )
            if have < size:
                log.warning("download_cut", file=name, bytes_here=have, bytes=size)
        file.flush()
        os.fsync(file.fileno())


def _swap(paths: PathsConfig, announced: Pointer) -> Pointer:
    """Say what the source says, but for the previous release: that is the one before on this host."""
    with pointer_lock(paths):
        here = _live_here(paths)
        previous = "" if here is None else here.previous
        if here is not None and here.release_id != announced.release_id:
            previous = here.release_id
        pointer = announced.model_copy(update={"previous": previous})
        if pointer != here:
            write_pointer(paths, pointer)
        failpoint("pull:after-pointer")
        return pointer
