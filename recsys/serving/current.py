"""What requests are answered from: the open release and the blocked items, and the watch that swaps them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

import structlog

import recsys
from recsys.errors import RecsysError
from recsys.release.pointer import Pointer
from recsys.release.snapshot import KINDS
from recsys.serving.metrics import Metrics
from recsys.serving.store import Releases, Store

log = structlog.get_logger()


class Look(Protocol):
    __name__: str

    def __call__(self) -> Awaitable[None]: ...


GLANCE_SECONDS = 0.25
"""While a release is checked the pointer is looked at so often: what it does not name any more is not waited for."""
RETRY_SECONDS = 10.0
"""A release that was refused is looked at again after this long, or when the pointer changes."""

# The command that puts the last item back on sale leaves both files behind.
_WITHOUT_A_LIST = (
    "blocked.json is gone, and so is its copy: what was blocked stays off until this service starts anew; is "
    "paths.releases mounted? Bring blocked.json back from publish.url, a host that pulls or a backup"
)


@dataclass(frozen=True, slots=True)
class Open:
    """One open release with what is off, and what every answer from it begins with."""

    store: Store
    blocked: frozenset[str]
    """Items that no answer may show. Empty on nearly every day, and requests then never look at it."""
    prefix: bytes
    etag: bytes
    """Of every list: the same until the release, the blocked items or the software change. A weak one, as the body
    names the request and so is never the same twice."""

    @classmethod
    def of(cls, store: Store, blocked: frozenset[str] = frozenset(), salt: str = "") -> Open:
        parts = "\0".join((recsys.__version__, salt, *sorted(blocked)))
        digest = hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        release = store.release_id.encode()
        return cls(
            store,
            blocked,
            b'{"release":"' + release + b'","request_id":"',
            b'W/"' + release + b"." + digest.encode() + b'"',
        )


class Current:
    """One reference, swapped whole: a request that took it answers from one release alone.

    Requests read what they need of ``open`` before their next ``await``, and the swap runs on the same
    event loop, so a release that was swapped out has no readers and may be closed.
    """

    open: Open

    def __init__(self, releases: Releases, metrics: Metrics, salt: str = "") -> None:
        """``salt``: what else of conf decides an answer; part of the ETag."""
        self._releases = releases
        self._metrics = metrics
        self._salt = salt
        self._refused: tuple[Pointer, float] | None = None
        self._problems: dict[str, str] = {}

    @property
    def problem(self) -> str:
        """Why the service is degraded; empty when it serves what the pointer names and knows what is blocked."""
        return "; ".join(self._problems.values())

    def start(self) -> None:
        """Open the live release, or the previous one where the live one is damaged.

        Raises:
            RecsysError: neither can be opened.
        """
        pointer = self._releases.live()
        try:
            store = self._releases.open(pointer.release_id)
        except RecsysError as error:
            if not pointer.previous:
                raise
            store = self._releases.open(pointer.previous)
            self._refuse(pointer, error)
        self._take(store, frozenset())
        self._look_at_blocked()

    async def watch(self, poll_seconds: float, look: Look) -> None:
        """Look for ever."""
        what = f"watch of {look.__name__}"
        while True:
            await asyncio.sleep(poll_seconds)
            try:
                await look()
            except Exception as error:
                # Whatever it is, the release that is open goes on serving.
                self._degrade(
                    what, f"cannot look for a new release: {type(error).__name__}: {error}"
                )
            else:
                self._recover(what)

    async def look(self) -> None:
        """Swap to the live release if it is another one and whole; else keep what is open and say why."""
        try:
            pointer = self._releases.live()
        except RecsysError as error:
            self._degrade("release", str(error))
            return
        if pointer.release_id == self.open.store.release_id:
            self._recover("release")
            return
        if self._refused_lately(pointer):
            return
        try:
            store = await self._opened(pointer)
        except (RecsysError, OSError) as error:
            self._refuse(pointer, error)
            return
        if store is None:
            await self.look()
            return
        old = self.open.store
        self._take(store, self.open.blocked)
        self._recover("release")
        self._metrics.swaps.inc()
        log.info("release_swapped", release=store.release_id, previous=old.release_id)
        await asyncio.to_thread(old.close)  # to unmap a large file takes a while

    async def _opened(self, pointer: Pointer) -> Store | None:
        """What the pointer names, checked; None where it names something else before that is done."""
        opening = asyncio.create_task(
            self._releases.open_aside(pointer.release_id, urgent=pointer.pinned)
        )
        try:
            # Its last answer decides: asked again after a check was cancelled, the pointer may have moved back.
            while (is_live := self._is_live(pointer)) and not opening.done():
                await asyncio.wait({opening}, timeout=GLANCE_SECONDS)
        finally:
            if not opening.done():
                opening.cancel()
                await asyncio.wait({opening})
        if is_live:
            return opening.result()
        if not opening.cancelled() and opening.exception() is None:
            opening.result().close()
        log.info("check_given_up", release=pointer.release_id, because="the pointer has changed")
        return None

    def _is_live(self, pointer: Pointer) -> bool:
        """Nor does a pointer that cannot be read say otherwise."""
        try:
            return self._releases.live() == pointer
        except RecsysError:
            return True

    async def look_at_blocked(self) -> None:
        """Take over what `recsys block-item` wrote; where that cannot be read, what is known stays off."""
        self._look_at_blocked()

    def close(self) -> None:
        self.open.store.close()

    def _look_at_blocked(self) -> None:
        try:
            known = self._releases.blocked()
        except (RecsysError, OSError) as error:
            self._degrade("blocked", str(error))
            return
        blocked = frozenset(known.items)
        if self.open.blocked and not known.exists:
            self._degrade("blocked", _WITHOUT_A_LIST)
            return
        if known.problem:
            blocked |= self.open.blocked  # the copy may be older than what is known
            self._degrade("blocked", known.problem)
        else:
            self._recover("blocked")
        if blocked != self.open.blocked:
            log.info("blocked_items", items=len(blocked), before=len(self.open.blocked))
            self.open = Open.of(self.open.store, blocked, self._salt)
            self._metrics.blocked_items.set(len(blocked))

    def _take(self, store: Store, blocked: frozenset[str]) -> None:
        self.open = Open.of(store, blocked, self._salt)
        counts = {kind: store.count(kind) for kind in KINDS}
        self._metrics.describe_release(store.release_id, counts)

    def _refused_lately(self, pointer: Pointer) -> bool:
        if self._refused is None:
            return False
        refused, at = self._refused
        return refused == pointer and time.monotonic() - at < RETRY_SECONDS

    def _refuse(self, pointer: Pointer, error: Exception) -> None:
        self._refused = (pointer, time.monotonic())
        self._metrics.refused.inc()
        self._degrade("release", str(error))

    def _degrade(self, what: str, problem: str) -> None:
        if problem != self._problems.get(what):
            log.error("degraded", problem=problem)
        self._problems[what] = problem
        self._metrics.degraded.set(1)

    def _recover(self, what: str) -> None:
        if what == "release":
            self._refused = None
        if self._problems.pop(what, ""):
            log.info("recovered", what=what)
        self._metrics.degraded.set(bool(self._problems))
