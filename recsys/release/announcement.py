"""Announce what is live at a URL: data first, manifest and checksums, the pointer last.

The announcement is a copy of the pointer file. Its epoch says which of two is the newer one: an older one never
replaces a newer one here, and hosts that pull refuse one. As in Voldemort's read-only stores (Sumbaly et al.,
FAST'12) every host fetches first, verifies, and swaps by itself.
"""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeGuard

import structlog
from pydantic import ValidationError

from recsys.blocked import BLOCKED_FILE, blocked_items, blocked_json
from recsys.config.places import PathsConfig
from recsys.errors import CorruptArtifact, MissingInput, Refused
from recsys.failpoints import failpoint
from recsys.locks import exclusive
from recsys.release.actions import read_actions
from recsys.release.manifest import ID_DIGITS
from recsys.release.pins import outrank
from recsys.release.pointer import POINTER_FILE, Pointer, read_pointer, release_folder
from recsys.release.pull_state import refuse_where_pulled
from recsys.release.remote import Source, Target, Unreachable
from recsys.release.shelf import shelved_releases
from recsys.release.snapshot import CHECKED_FILES, CHECKSUMS_FILE, files_of, read_sums

log = structlog.get_logger()

RELEASE_NAME = re.compile(rf"\d{{4}}-\d\d-\d\d-[0-9a-f]{{{ID_DIGITS}}}")
"""Nothing else at a URL is ours to remove."""


@dataclass(frozen=True)
class Announced:
    """What a URL says now, and what had to be done for it."""

    pointer: Pointer
    uploaded: bool
    """False where the release lay there already."""
    removed: tuple[str, ...]
    """Old releases that were taken away there."""


def read_announcement(source: Source) -> Pointer | None:
    """What is announced there; None where nothing ever was.

    Raises:
        Unreachable: the place does not answer.
        CorruptArtifact: what is there is no pointer.
    """
    content = source.read(POINTER_FILE)
    if content is None:
        return None
    try:
        return Pointer.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        raise CorruptArtifact(
            f"the announcement {source.url}/{POINTER_FILE} is unreadable "
            f"({'.'.join(map(str, problem['loc'])) or 'not JSON'}: {problem['msg'][:200]}): hosts keep the release "
            "they have; `recsys release announce`, where releases are published, writes it again"
        ) from None


def announce(
    paths: PathsConfig, target: Target, *, keep: int, take_over: bool = False
) -> Announced:
    """Make ``target`` say what is live here; done already is done again in no time.

    ``keep`` releases stay there, beside those on disk here. ``take_over`` makes this publisher the newest one
    where another has announced, by an epoch above the other's.

    Raises:
        MissingInput: nothing is live.
        Refused: a newer announcement is there, and ``take_over`` is false.
        CorruptArtifact: the live release lacks a file.
        Unreachable: the place does not answer; what is announced there is whole.
        ConfigError: this host pulls.
    """
    refuse_where_pulled(paths, "an announcement")
    try:
        return _announce(paths, target, keep, take_over)
    except Unreachable as error:
        raise Unreachable(
            f"{error}. What is live here is not announced there: when it answers again, "
            "`recsys release announce`, or the next publish, completes it"
        ) from error


def _announce(paths: PathsConfig, target: Target, keep: int, take_over: bool) -> Announced:
    uploaded: dict[str, bool] = {}
    while True:
        live = read_pointer(paths)
        if live is None:
            raise MissingInput(
                f"nothing to announce at {target.url}: no release is live in {paths.releases}"
            )
        if live.release_id not in uploaded:
            if not take_over:
                _check_is_newest(target, live, _replaceable(target))
            uploaded[live.release_id] = _upload(paths, target, live.release_id)
        failpoint("announce:before-pointer")
        with _announcing(paths):
            # An upload takes its time: what is said is what is live now, not what was when it began.
            live = read_pointer(paths)
            if live is None or live.release_id not in uploaded:
                continue
            there = _replaceable(target)
            if take_over and _is_newer_or_other(there, live):
                live = outrank(
                    paths, live.release_id, above=there, url=target.url, now=datetime.now(UTC)
                )
                if live is None:
                    continue
            _check_is_newest(target, live, there)
            _write_blocked_if_known(paths, target)
            if live != there:
                _write_pointer(target, live)
            removed = _sweep(paths, target, live, keep)
        return Announced(live, uploaded[live.release_id], removed)


def announce_blocked(paths: PathsConfig, target: Target) -> None:
    """Make ``target`` name the items that are blocked here, and nothing else.

    Raises:
        Unreachable: the place does not answer.
        Refused: a newer announcement is there, whose publisher says what is blocked.
        CorruptArtifact: what is announced there is no pointer; nobody knows what is live here, or what is blocked.
        ConfigError: this host pulls.
    """
    refuse_where_pulled(paths, "a blocked item")
    with _announcing(paths):
        _check_is_newest(target, _last_pointer(paths), read_announcement(target))
        _write_blocked(paths, target)


def _announcing(paths: PathsConfig) -> AbstractContextManager[None]:
    """Held around comparing and writing, never during an upload: a roll-back does not wait for one."""
    return exclusive(paths.locks / "announce.lock", wait=True, what="an announcement")


def _upload(paths: PathsConfig, target: Target, release_id: str) -> bool:
    """Bring a release there, its checksums last: the mark of a whole upload. False where it lies there whole."""
    folder = release_folder(paths, release_id)
    if missing := [n for n in (*CHECKED_FILES, CHECKSUMS_FILE) if not (folder / n).is_file()]:
        raise CorruptArtifact(
            f"release {release_id} is live and has no {folder / missing[0]}: nothing was uploaded; take another "
            "release (recsys release list, then roll-back --to RELEASE)"
        )
    files = [name for name in files_of(read_sums(folder)) if (folder / name).is_file()]
    sizes = {name: (folder / name).stat().st_size for name in files}
    sums = f"{release_id}/{CHECKSUMS_FILE}"
    if target.read(sums) == (folder / CHECKSUMS_FILE).read_bytes() and all(
        target.size(f"{release_id}/{name}") == size for name, size in sizes.items()
    ):
        log.info("upload_needless", release=release_id, url=target.url)
        return False
    started = time.monotonic()
    for name in files:
        target.upload(f"{release_id}/{name}", folder / name)
        failpoint(f"announce:after-{name}")
    target.upload(sums, folder / CHECKSUMS_FILE)
    megabytes = round(sum(sizes.values()) / 1e6, 1)
    seconds = round(time.monotonic() - started, 1)
    log.info(
        "release_uploaded", release=release_id, url=target.url, megabytes=megabytes, seconds=seconds
    )
    return True


def _replaceable(target: Target) -> Pointer | None:
    """What is announced there; None also where that cannot be read, which an announcement mends."""
    try:
        return read_announcement(target)
    except CorruptArtifact as error:
        log.warning("announcement_unreadable", problem=str(error))
        return None


def _is_newer_or_other(there: Pointer | None, live: Pointer | None) -> TypeGuard[Pointer]:
    """Whether what is announced is another pointer than the one here, and no older one."""
    if there is None:
        return False
    if live is None or there.epoch > live.epoch:
        return True
    return there.epoch == live.epoch and (there.release_id, there.at) != (live.release_id, live.at)


def _last_pointer(paths: PathsConfig) -> Pointer | None:
    """The pointer here, or what the log of actions has of it: a damaged one must not keep a recall from hosts.

    Raises:
        CorruptArtifact: it is damaged, and the log does not know it.
    """
    try:
        return read_pointer(paths)
    except CorruptArtifact as error:
        last = max(read_actions(paths), key=lambda action: action.epoch, default=None)
        if last is None or not last.epoch:
            raise
        log.warning("pointer_of_the_log", epoch=last.epoch, problem=str(error))
        return Pointer(release_id=last.release_id, at=last.at, epoch=last.epoch)


def _check_is_newest(target: Target, live: Pointer | None, there: Pointer | None) -> None:
    """Before anything is written: hosts take the list of blocked items from whoever they follow, as the release.

    Raises:
        Refused: ``there``, which is announced, is newer than ``live``, or another publisher's.
    """
    if not _is_newer_or_other(there, live):
        return
    here = "no release is live here"
    if live:
        here = f"{live.release_id}, live here, has epoch {live.epoch} and would be older"
    raise Refused(
        f"{target.url} announces {there.release_id} with epoch {there.epoch}, set at {there.at:%Y-%m-%d %H:%M} UTC; "
        f"{here}: nothing was announced. Is another publisher at work there? If this one is to replace it: "
        "`recsys release announce --take-over`"
    )


def _write_pointer(target: Target, live: Pointer) -> None:
    target.write(POINTER_FILE, live.to_json())
    log.info("release_announced", release=live.release_id, epoch=live.epoch, url=target.url)
    failpoint("announce:after-pointer")


def _write_blocked(paths: PathsConfig, target: Target) -> None:
    """Also where no item is blocked: a file that is not there would leave hosts with what they have."""
    content = blocked_json(blocked_items(paths))
    if target.read(BLOCKED_FILE) != content:
        target.write(BLOCKED_FILE, content)


def _write_blocked_if_known(paths: PathsConfig, target: Target) -> None:
    """Where nobody knows what is blocked here, what is off at the hosts stays off; no reason to keep a release back."""
    try:
        _write_blocked(paths, target)
    except CorruptArtifact as error:
        log.error("blocked_items_not_announced", url=target.url, problem=str(error))


def _sweep(paths: PathsConfig, target: Target, live: Pointer, keep: int) -> tuple[str, ...]:
    """Take away old releases there, and what a killed write of the pointer left."""
    names = target.names()
    for name in names:
        if name.startswith((f".{POINTER_FILE}.", f".{BLOCKED_FILE}.")):
            target.remove(name)
    releases = sorted((name for name in names if RELEASE_NAME.fullmatch(name)), reverse=True)
    needed = {live.release_id, live.previous, *(one.release_id for one in shelved_releases(paths))}
    doomed = [name for name in releases[keep:] if name not in needed]
    for name in doomed:
        target.remove(name)
    if doomed:
        log.info("releases_removed", releases=doomed, url=target.url)
    return tuple(doomed)
