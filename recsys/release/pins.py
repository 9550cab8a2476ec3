"""Change what is live by hand: pin, unpin, roll back. No JVM, no Spark; the pointer first, then its log."""

from __future__ import annotations

from datetime import datetime

from recsys.config.places import PathsConfig
from recsys.errors import FIRST_NIGHT, ConfigError, CorruptArtifact, MissingInput
from recsys.release.actions import Action, Verb, append_action
from recsys.release.manifest import ReleaseManifest
from recsys.release.opening import open_release
from recsys.release.pointer import (
    Pointer,
    next_epoch,
    pointer_lock,
    read_pointer,
    release_folder,
    write_pointer,
)
from recsys.release.pull_state import refuse_where_pulled
from recsys.release.shelf import shelved_releases


def pin(paths: PathsConfig, release_id: str | None, *, reason: str, now: datetime) -> Pointer:
    """Keep ``release_id`` (or what is live) live until ``unpin``; later publishes are built and held.

    Raises:
        MissingInput: nothing was ever published.
        ConfigError: no such release on disk, or this host pulls.
        CorruptArtifact: the release is damaged; nothing was changed.
    """
    refuse_where_pulled(paths, "a pin")
    with pointer_lock(paths):
        live = _live(paths)
        target = release_id or live.release_id
        _check(paths, target)
        previous = live.previous if target == live.release_id else live.release_id
        pointer = Pointer(release_id=target, previous=previous, pinned=True, reason=reason, at=now)
        return _move(paths, live, pointer, "pinned")


def unpin(paths: PathsConfig, *, reason: str, now: datetime) -> Pointer:
    """Let the next publish go live again. What is live stays live until then.

    Raises:
        MissingInput: nothing was ever published.
        ConfigError: nothing is pinned, or this host pulls.
    """
    refuse_where_pulled(paths, "a pin")
    with pointer_lock(paths):
        live = _live(paths)
        if not live.pinned:
            raise ConfigError(
                f"nothing is pinned: {live.release_id} is live, the next publish replaces it"
            )
        changed = live.model_copy(update={"pinned": False, "reason": reason, "at": now})
        return _move(paths, live, changed, "unpinned")


def roll_back(paths: PathsConfig, to: str | None, *, reason: str, now: datetime) -> Pointer:
    """Make ``to`` (or the release that was live before) live, and pin it.

    With ``to`` this also repairs a pointer that cannot be read.

    Raises:
        MissingInput: nothing was ever published.
        ConfigError: no such release on disk, no previous one, or this host pulls.
        CorruptArtifact: the release is damaged; nothing was changed.
    """
    refuse_where_pulled(paths, "a roll-back")
    with pointer_lock(paths):
        try:
            live = _live(paths)
        except CorruptArtifact:
            if to is None:
                raise
            live = None
        target = to or (live.previous if live else "")
        if not target:
            raise ConfigError(
                f"no release was live before this one; take one with --to: {_names(paths)}"
            )
        _check(paths, target)
        if live is None:
            previous = ""
        else:
            previous = live.previous if target == live.release_id else live.release_id
        pointer = Pointer(release_id=target, previous=previous, pinned=True, reason=reason, at=now)
        return _move(paths, live, pointer, "rolled_back")


def outrank(paths: PathsConfig, epoch: int, release_id: str, *, now: datetime) -> Pointer | None:
    """Give the pointer an epoch above another publisher's; None where ``release_id`` is not live any more."""
    with pointer_lock(paths):
        live = read_pointer(paths)
        if live is None or live.release_id != release_id:
            return None
        changed = live.model_copy(update={"at": now})
        return _move(paths, live, changed, "taken_over", above=epoch)


def _live(paths: PathsConfig) -> Pointer:
    pointer = read_pointer(paths)
    if pointer is None:
        raise MissingInput(f"no release is live in {paths.releases}: {FIRST_NIGHT}")
    return pointer


def _check(paths: PathsConfig, release_id: str) -> None:
    """The release is there and whole."""
    if release_id not in {release.release_id for release in shelved_releases(paths)}:
        raise ConfigError(f"no release {release_id!r} on disk; there are: {_names(paths)}")
    open_release(release_folder(paths, release_id)).close()


def _names(paths: PathsConfig) -> str:
    names = [release.release_id for release in shelved_releases(paths)]
    return ", ".join(names[:10]) or "none"


def _move(
    paths: PathsConfig, live: Pointer | None, pointer: Pointer, verb: Verb, *, above: int = 0
) -> Pointer:
    """``above`` is another publisher's epoch; the pointer's becomes larger than that, too."""
    manifest = ReleaseManifest.read(release_folder(paths, pointer.release_id))
    epoch = max(next_epoch(paths, live), above + 1)
    pointer = pointer.model_copy(update={"epoch": epoch})
    write_pointer(paths, pointer)
    append_action(
        paths,
        Action(
            release_id=pointer.release_id,
            run_date=manifest.run_date,
            action=verb,
            at=pointer.at,
            model_version=manifest.model.version,
            model_age_days=manifest.model.age_days,
            reason=pointer.reason,
            epoch=pointer.epoch,
        ),
    )
    return pointer
