"""`recsys pull`: bring announced releases to a lookup host."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from recsys.cli.shared import EnvOption, SetOption, exiting
from recsys.config import load_config
from recsys.errors import ConfigError, CorruptArtifact, MissingInput
from recsys.logs import configure_logs

if TYPE_CHECKING:
    from recsys.release.following import Follower
    from recsys.release.pull import Report

log = structlog.get_logger()

SAY_EVERY_SECONDS = 10.0


def pull_command(
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="URL", help="What publish.url names. Default: serving.pull_from."
        ),
    ] = "",
    once: Annotated[
        bool, typer.Option("--once", help="Pull what is announced now, and end.")
    ] = False,
    env: EnvOption = "local",
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Pull the announced release to paths.root and make it live; then look every serving.pull_seconds.

    file:, s3:, hdfs: and what else fsspec knows, http: and https:. A download that was cut goes on where it
    stopped. Nothing goes live before its checksums and golden users agree; the release before is kept.
    """
    with exiting():
        from recsys.release.following import Follower
        from recsys.release.remote import open_source

        config = load_config(env, set_)
        configure_logs(job="pull")
        url = source or config.serving.pull_from
        if not url:
            raise ConfigError(
                "nowhere to pull from: name the URL that releases are announced at with --from, or set "
                "serving.pull_from"
            )
        with _progress() as report:
            place = open_source(url)
            follower = Follower(config.paths, place, now=lambda: datetime.now(UTC), report=report)
            if not once:
                _follow(follower, place.url, config.serving.pull_seconds)
                return
            try:
                pulled = follower.poll()
            except OSError as error:
                raise MissingInput(f"{config.paths.releases} cannot be written: {error}") from None
        what = "is live" if pulled.moved else "was live already"
        megabytes = pulled.downloaded_bytes / 1e6
        typer.echo(
            f"{pulled.pointer.release_id} {what}, epoch {pulled.pointer.epoch}; {megabytes:,.1f} MB downloaded"
        )
        if pulled.problem:
            raise CorruptArtifact(pulled.problem)


def _follow(follower: Follower, url: str, seconds: float) -> None:
    """Until SIGTERM or Ctrl-C; what is half downloaded then is taken up by the next start."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    typer.echo(f"following {url} every {seconds:g} s (Ctrl-C ends)")
    stop = threading.Event()
    try:
        follower.run(seconds, stop)
    except KeyboardInterrupt:
        stop.set()
        typer.echo("ended; what is live here stays")


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar for each file on a terminal, elsewhere a line now and then."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def report(name: str, have: int, size: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=size)
            bars.update(tasks[name], completed=have)

        yield report


def _lines() -> Report:
    said_at = time.monotonic()

    def report(name: str, have: int, size: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= SAY_EVERY_SECONDS:
            said_at = time.monotonic()
            log.info("downloading", file=name, percent=round(100 * have / size, 1), bytes=size)

    return report
