"""Follow a URL: look at it every few seconds, pull what it announces, and leave word of how that goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import structlog

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError, Conflict, CorruptArtifact, MissingInput, RecsysError
from recsys.release.announcement import read_announcement
from recsys.release.pointer import Pointer, read_pointer
from recsys.release.pull import Pulled, Report, check_is_newer, pull, pull_blocked
from recsys.release.pull_state import PullState, read_pull_state, write_pull_state
from recsys.release.remote import Source, open_source

log = structlog.get_logger()

DAMAGED_SECONDS = 600.0
"""A release that failed its checks is downloaded again after this long, or when the announcement changes."""


class Follower:
    """One host and the URL that it follows."""

    def __init__(
        self,
        paths: PathsConfig,
        source: Source,
        *,
        now: Callable[[], datetime],
        report: Report = lambda *_: None,
    ) -> None:
        self._paths, self._source, self._now, self._report = paths, source, now, report
        self._damaged: tuple[Pointer, float] | None = None
        self._said = ""

    def poll(self) -> Pulled:
        """Pull once; how it went is in ``pull_state.json``. With a problem beside the release it is a success, too.

        Raises:
            MissingInput: nothing is announced there.
            RecsysError: as ``pull``.
        """
        announced: Pointer | None = None
        try:
            announced = self._announced()
            pulled = pull(self._paths, self._source, announced, self._report)
        except (ConfigError, Conflict):
            raise  # this host is no follower, or another process writes its state
        except (RecsysError, OSError) as error:
            if announced and isinstance(error, CorruptArtifact):
                self._damaged = (announced, time.monotonic() + DAMAGED_SECONDS)
            self._remember(last_error=str(error), last_error_at=self._now())
            raise
        self._damaged = None
        now = self._now()
        self._remember(
            release_id=pulled.pointer.release_id, epoch=pulled.pointer.epoch, last_success=now,
            last_error=pulled.problem, **({"last_error_at": now} if pulled.problem else {}),
        )  # fmt: skip
        return pulled

    def run(self, seconds: float, stop: threading.Event) -> None:
        """Poll until ``stop`` is set. Whatever goes wrong, what is live here stays, and the next poll tries again.

        Blocked items are looked at by a thread of their own: a large download must not hold them up.
        """
        blocked = threading.Thread(
            target=self._keep_blocked, args=(seconds, stop), name="pull-blocked", daemon=True
        )
        blocked.start()
        while not stop.is_set():
            try:
                if not self._is_known_as_damaged():
                    self._say(self.poll().problem)
            except Conflict:
                pass  # another service of this host pulls: what it brings is live for this one, too
            except Exception as error:
                self._say(str(error) if isinstance(error, RecsysError) else repr(error))
            stop.wait(seconds)
        blocked.join()

    def _is_known_as_damaged(self) -> bool:
        if self._damaged is None or time.monotonic() > self._damaged[1]:
            return False
        return self._damaged[0] == self._announced()

    def _announced(self) -> Pointer:
        announced = read_announcement(self._source)
        if announced is None:
            raise MissingInput(
                f"nothing is announced at {self._source.url}: publish a run date there first "
                f"(publish.url={self._source.url})"
            )
        return announced

    def _keep_blocked(self, seconds: float, stop: threading.Event) -> None:
        while not stop.wait(seconds):
            try:
                check_is_newer(self._paths, self._source, self._announced())
                if pull_blocked(self._paths, self._source):
                    log.info("blocked_items_pulled", url=self._source.url)
            except Exception as error:
                # ``run`` asks the same source and says what is wrong with it.
                log.debug("blocked_items_not_pulled", problem=str(error))

    def _remember(self, **changes: object) -> None:
        state = read_pull_state(self._paths) or PullState(url=self._source.url)
        state = state.model_copy(update={"url": self._source.url, **changes})
        try:
            write_pull_state(self._paths, state)
        except OSError as error:  # a full disk: what is wrong with the pull itself says more
            log.warning("pull_state_not_written", problem=str(error))

    def _say(self, problem: str) -> None:
        """Once, not at every poll."""
        if problem and problem != self._said:
            log.error("pull_failed", url=self._source.url, problem=problem)
        elif self._said and not problem:
            log.info("pull_recovered", url=self._source.url)
        self._said = problem


@contextmanager
def following(config: RecsysConfig, now: Callable[[], datetime]) -> Iterator[None]:
    """Follow ``serving.pull_from`` while something is served; nothing where that is empty.

    Where nothing is live yet, the first release is waited for; else what is live is served at once, even
    if the source is down.

    Raises:
        RecsysError: as ``Follower.poll``, where nothing is live yet.
    """
    serving = config.serving
    if not serving.pull_from:
        yield
        return
    follower = Follower(config.paths, open_source(serving.pull_from), now=now)
    if not _is_something_live(config.paths):
        follower.poll()
    stop = threading.Event()
    thread = threading.Thread(
        target=follower.run, args=(serving.pull_seconds, stop), name="pull", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()  # not joined: a download under way is taken up by the next start


def _is_something_live(paths: PathsConfig) -> bool:
    try:
        return read_pointer(paths) is not None
    except CorruptArtifact:
        return False
