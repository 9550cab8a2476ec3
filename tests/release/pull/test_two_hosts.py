"""Two hosts that pull from one web server, as processes: one is cut off in mid-download, one restarts in the dark."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.serving import ServingConfig
from recsys.errors import RecsysError
from recsys.release.following import following
from recsys.release.pull_state import read_pull_state
from recsys.release.snapshot import DATA_FILE
from recsys.serving.store import PublishedReleases
from tests.release.pull.shops import Shop, on_disk, pull_process, served
from tests.release.pull.web import web_server

PATIENCE_SECONDS = 60
USERS = 1500


@contextmanager
def pulling(host: PathsConfig, url: str) -> Iterator[subprocess.Popen[str]]:
    process = pull_process(host, url, "--set", "serving.pull_seconds=0.05")
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert "Traceback" not in said, said


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _now(true):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _now(true: Callable[[], bool]) -> bool:
    try:
        return true()
    except (AssertionError, RecsysError, OSError):  # nothing is there yet
        return False


def error_of(host: PathsConfig) -> str:
    state = read_pull_state(host)
    assert state is not None
    return state.last_error


def test_two_hosts_follow_through_a_cut_and_one_restarts_with_the_source_down(
    shop: Shop, tmp_path: Path
) -> None:
    one, two = (PathsConfig(root=str(tmp_path / name)) for name in ("one", "two"))
    first = shop.announced(1)
    with ExitStack() as source:
        web = source.enter_context(web_server(shop.folder))
        port = int(web.url.rpartition(":")[2])
        with pulling(one, web.url), pulling(two, web.url) as of_two:
            until(lambda: served(one)[0] == served(two)[0] == first, "both have the first")

            # The second release begins to come and the source goes down under it.
            web.cuts = [300_000] + [0] * 1000
            second = shop.announced(2, users=USERS)
            until(lambda: bool(error_of(one) and error_of(two)), "both were cut off")
            source.close()
            assert web.cut[0] == (f"/{second}/{DATA_FILE}", 300_000)
            assert [served(host)[1] for host in (one, two)] == ["day-1", "day-1"]

            # The one goes on looking; the other is killed, and starts again in the dark.
            of_two.kill()
            of_two.wait()
            config = RecsysConfig(
                paths=two, serving=ServingConfig(pull_from=web.url, pull_seconds=0.05)
            )
            with following(config, lambda: datetime.now(UTC)):  # as `recsys serve` does
                releases = PublishedReleases(two)
                releases.open(releases.live().release_id).close()
                assert served(two) == (first, "day-1")
                until(lambda: "URLError" in error_of(two), "the source is down")
                assert served(two) == (first, "day-1")

                # The source comes back at its old address: each goes on with what it has.
                again = source.enter_context(web_server(shop.folder, port))
                until(lambda: served(one)[0] == served(two)[0] == second, "both have the second")
                until(lambda: error_of(one) == error_of(two) == "", "and say so")
                assert max(again.starts("data.mdb")) > 0  # who had a part of it asked for the rest
        assert on_disk(one) == on_disk(two) == {first, second}


def test_a_host_without_a_release_waits_for_the_first_one_before_it_serves(
    shop: Shop, host: PathsConfig
) -> None:
    release = shop.announced(1)
    config = RecsysConfig(paths=host, serving=ServingConfig(pull_from=shop.url))
    with following(config, lambda: datetime.now(UTC)):
        assert served(host)[0] == release
    nothing = RecsysConfig(paths=PathsConfig(root=host.root + "-2"))
    with following(nothing, lambda: datetime.now(UTC)):
        assert not nothing.paths.releases.exists()


def test_the_command_ends_on_sigterm_and_says_whom_it_follows(
    shop: Shop, host: PathsConfig
) -> None:
    shop.announced(1)
    process = pull_process(host, shop.url)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said == f"following {shop.url} every 5 s (Ctrl-C ends)\n"
    until(lambda: served(host)[1] == "day-1", "pulled")
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, rest.endswith("ended; what is live here stays\n")) == (0, True), (
        rest
    )
