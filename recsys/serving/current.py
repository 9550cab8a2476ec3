"""The release that requests are answered from, and the watch that swaps it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import structlog

from recsys.errors import RecsysError
from recsys.release.pointer import Pointer
from recsys.release.snapshot import KINDS
from recsys.serving.metrics import Metrics
from recsys.serving.store import Releases, Store

log = structlog.get_logger()

RETRY_SECONDS = 10.0
"""A release that was refused is looked at again after this long, or when the pointer changes."""


@dataclass(frozen=True)
class Open:
    """One open release with what every answer from it begins with."""

    store: Store
    prefix: bytes

    @classmethod
    def of(cls, store: Store) -> Open:
        return cls(store, b'{"release":"' + store.release_id.encode() + b'","request_id":"')


class Current:
    """One reference, swapped whole: a request that took it answers from one release alone.

    Requests read what they need of ``open`` before their first ``await``, and the swap runs on the same
    event loop, so a release that was swapped out has no readers and is closed at once.
    """

    open: Open

    def __init__(self, releases: Releases, metrics: Metrics) -> None:
        self._releases = releases
        self._metrics = metrics
        self._refused: tuple[Pointer, float] | None = None
        self.problem = ""
        """Why the service is degraded; empty when it serves what the pointer names."""

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
        self._take(Open.of(store))

    async def watch(self, poll_seconds: float) -> None:
        """Look at the pointer for ever."""
        while True:
            await asyncio.sleep(poll_seconds)
            try:
                await self.look()
            except Exception as error:
                # Whatever it is, the release that is open goes on serving.
                self._degrade(f"cannot look for a new release: {type(error).__name__}: {error}")

    async def look(self) -> None:
        """Swap to the live release if it is another one and whole; else keep what is open and say why."""
        try:
            pointer = self._releases.live()
        except RecsysError as error:
            self._degrade(str(error))
            return
        if pointer.release_id == self.open.store.release_id:
            self._recover()
            return
        if self._refused_lately(pointer):
            return
        try:
            # Checksums of a large snapshot take seconds: not on the loop that answers.
            store = await asyncio.to_thread(self._releases.open, pointer.release_id)
        except (RecsysError, OSError) as error:
            self._refuse(pointer, error)
            return
        old = self.open.store
        self._take(Open.of(store))
        self._recover()
        self._metrics.swaps.inc()
        log.info("release_swapped", release=store.release_id, previous=old.release_id)
        old.close()

    def close(self) -> None:
        self.open.store.close()

    def _take(self, opened: Open) -> None:
        self.open = opened
        counts = {kind: opened.store.count(kind) for kind in KINDS}
        self._metrics.describe_release(opened.store.release_id, counts)

    def _refused_lately(self, pointer: Pointer) -> bool:
        if self._refused is None:
            return False
        refused, at = self._refused
        return refused == pointer and time.monotonic() - at < RETRY_SECONDS

    def _refuse(self, pointer: Pointer, error: Exception) -> None:
        self._refused = (pointer, time.monotonic())
        self._metrics.refused.inc()
        self._degrade(str(error))

    def _degrade(self, problem: str) -> None:
        if problem != self.problem:
            log.error("degraded", problem=problem)
        self.problem = problem
        self._metrics.degraded.set(1)

    def _recover(self) -> None:
        if self.problem:
            log.info("recovered")
        self.problem, self._refused = "", None
        self._metrics.degraded.set(0)
