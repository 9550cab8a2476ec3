"""Change the pointer by hand: pin, unpin, roll back, take over. No JVM, no Spark; the pointer first, then its log."""

from __future__ import annotations

from datetime import datetime

from recsys.config.places import PathsConfig
from recsys.errors import FIRST_NIGHT, ConfigError, CorruptArtifact, MissingInput
from recsys.release.actions import Action, Verb, append_action, read_actions
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


def outrank(
    paths: PathsConfig, release_id: str, *, above: Pointer, url: str, now: datetime
) -> Pointer | None:
    """Give the pointer an epoch above that of another publisher's; None where ``release_id`` is not live any more.

    Raises:
        CorruptArtifact: the pointer or the release's manifest cannot be read; nothing was changed.
    """
    with pointer_lock(paths):
        live = read_pointer(paths)
        if live is None or live.release_id != release_id:
            return None
        # A publish that was killed before it wrote its line would find this one's, and be written down nowhere.
        remember_published(paths, live, ReleaseManifest.read(release_folder(paths, release_id)))
        changed = live.model_copy(update={"at": now})
        reason = f"above epoch {above.epoch} of {above.release_id}, announced at {url}"
        return _move(paths, live, changed, "taken_over", above=above.epoch, reason=reason)


def remember_published(paths: PathsConfig, live: Pointer, manifest: ReleaseManifest) -> None:
    """Write down how the release of ``manifest`` went live, where no line says it of this pointer."""
    known = {(one.release_id, one.at) for one in read_actions(paths)}
    if (live.release_id, live.at) not in known:
        reason = manifest.model.reason
        done = Action.of(manifest, "published", at=live.at, reason=reason, epoch=live.epoch)
        append_action(paths, done)


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
    paths: PathsConfig,
    live: Pointer | None,
    pointer: Pointer,
    verb: Verb,
    *,
    above: int = 0,
    reason: str | None = None,
) -> Pointer:
    """``above`` is another publisher's epoch; the pointer's becomes larger than that, too. ``reason`` of the line in
    the log; None: the pointer's."""
    manifest = ReleaseManifest.read(release_folder(paths, pointer.release_id))
    epoch = max(next_epoch(paths, live), above + 1)
    pointer = pointer.model_copy(update={"epoch": epoch})
    write_pointer(paths, pointer)
    said = pointer.reason if reason is None else reason
    append_action(paths, Action.of(manifest, verb, at=pointer.at, reason=said, epoch=epoch))
    return pointer
