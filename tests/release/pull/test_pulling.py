"""Pulling: what is announced becomes live here, whole or not at all, and whatever happens something whole is live."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recsys.blocked import block_item, blocked_path, read_blocked
from recsys.cli import app
from recsys.config.places import PathsConfig
from recsys.errors import MissingInput
from recsys.release.announcement import announce_blocked
from recsys.release.http_place import HttpPlace
from recsys.release.pins import roll_back
from recsys.release.pointer import read_pointer, release_folder
from recsys.release.pull_state import read_pull_state
from recsys.release.remote import Unreachable, open_target
from recsys.release.snapshot import CHECKSUMS_FILE, DATA_FILE
from tests.release.making import NOON, write_checksums
from tests.release.pull.shops import (
    Shop,
    follower,
    on_disk,
    poll,
    pull_process,
    served,
)
from tests.release.pull.web import Web

USERS = 1500
"""Their snapshot takes a megabyte: several reads of http."""


def test_a_new_host_takes_what_is_announced_over_http_and_from_a_folder(
    shop: Shop, host: PathsConfig, web: Web, tmp_path: Path
) -> None:
    release = shop.announced(1)
    for paths, url in ((host, web.url), (PathsConfig(root=str(tmp_path / "mounts")), shop.url)):
        pulled = poll(paths, url)
        assert (pulled.moved, pulled.downloaded_bytes > 10_000) == (True, True)
        assert served(paths) == (release, "day-1")
        assert on_disk(paths) == {release}
        assert read_pointer(paths) == read_pointer(
            shop.paths
        )  # but for previous, and there is none
        sums = (release_folder(paths, release) / CHECKSUMS_FILE).read_text()
        assert sums == (release_folder(shop.paths, release) / CHECKSUMS_FILE).read_text()


def test_what_is_live_already_is_not_looked_at_again(
    shop: Shop, host: PathsConfig, web: Web
) -> None:
    shop.announced(1)
    one = follower(host, web.url)
    one.poll()
    del web.asked[:]
    assert (one.poll().moved, web.asked) == (
        False,
        [("GET", "/current", 0), ("GET", "/blocked.json", 0)],
    )


def test_the_live_and_the_previous_release_are_kept_and_no_other(
    shop: Shop, host: PathsConfig
) -> None:
    names = []
    for day in (1, 2, 3, 4):
        names.append(shop.announced(day))
        removed = poll(host, shop.url).removed
        assert on_disk(host) == set(names[-2:])
        assert removed == tuple(names[-3:-2])
    pointer = read_pointer(host)
    assert pointer is not None
    assert (pointer.release_id, pointer.previous) == (names[3], names[2])
    shop.announced(5)  # never seen here
    sixth = shop.announced(6)
    poll(host, shop.url)
    pointer = read_pointer(host)
    assert pointer is not None
    assert (pointer.release_id, pointer.previous) == (sixth, names[3])
    assert on_disk(host) == {sixth, names[3]}


def test_a_roll_back_reaches_a_host_without_a_download(
    shop: Shop, host: PathsConfig, web: Web
) -> None:
    first = shop.announced(1)
    second = shop.announced(2)
    poll(host, web.url)
    roll_back(shop.paths, first, reason="bad lists", now=NOON)
    shop.announce()
    assert poll(host, web.url).downloaded_bytes > 0  # the first was never here
    assert served(host) == (first, "day-1")
    shop.command("release", "roll-back", "--to", second)
    del web.asked[:]
    assert (poll(host, web.url).downloaded_bytes, web.starts("data.mdb")) == (0, [])
    assert served(host) == (second, "day-2")
    pointer = read_pointer(host)
    assert pointer is not None
    assert (pointer.pinned, pointer.previous, pointer.epoch) == (True, first, 4)


@pytest.mark.parametrize("after", [300_000, -300_000], ids=["ended", "reset"])
def test_a_connection_that_is_cut_is_taken_up_where_it_broke_off(
    shop: Shop, host: PathsConfig, web: Web, after: int
) -> None:
    release = shop.announced(1, users=USERS)
    web.cuts = [after, after]
    poll(host, web.url)
    assert [sent for _, sent in web.cut] == [300_000, 300_000]  # the faults landed
    first, second, third = web.starts("data.mdb")
    assert (first, 0 < second <= 300_000, second < third <= second + 300_000) == (0, True, True)
    assert served(host) == (release, "day-1")


def test_a_source_that_goes_down_in_mid_download_leaves_what_is_live_and_what_was_downloaded(
    shop: Shop, host: PathsConfig, web: Web
) -> None:
    shop.announced(1)
    one = follower(host, web.url)
    one.poll()
    second = shop.announced(2, users=USERS)
    web.cuts = [300_000, 0]  # then nothing more comes
    with pytest.raises(Unreachable, match=f"{second}/snapshot/data.mdb"):
        one.poll()
    assert len(web.cut) == 2
    assert served(host)[1] == "day-1"
    state = read_pull_state(host)
    assert state is not None
    assert (
        state.epoch,
        "does not answer" in state.last_error or "ends after" in state.last_error,
    ) == (1, True)
    [partial] = [name for name in on_disk(host) if name.startswith(".pulling-")]
    here = (host.releases / partial / DATA_FILE).stat().st_size
    assert 0 < here <= 300_000

    del web.asked[:]
    one.poll()
    assert web.starts("data.mdb") == [here]
    assert served(host) == (second, "day-2")
    state = read_pull_state(host)
    assert state is not None
    assert (state.epoch, state.last_error, state.release_id) == (2, "", second)


def test_a_server_that_knows_no_ranges_does_too(shop: Shop, host: PathsConfig, web: Web) -> None:
    release = shop.announced(1, users=USERS)
    web.knows_ranges, web.cuts = False, [500_000]
    poll(host, web.url)
    assert len(web.cut) == 1
    assert served(host) == (release, "day-1")


def test_a_file_that_is_longer_than_its_source_says_is_not_written_to_its_end(
    shop: Shop, host: PathsConfig, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = shop.announced(1, users=USERS)
    size = HttpPlace.size

    def said(place: HttpPlace, name: str) -> int | None:
        found = size(place, name)
        return found and min(found, 100_000)

    monkeypatch.setattr(HttpPlace, "size", said)
    with pytest.raises(Unreachable, match=r"data\.mdb is longer than the 100,000 bytes"):
        poll(host, web.url)
    assert (host.releases / f".pulling-{release}" / DATA_FILE).stat().st_size <= 100_000
    monkeypatch.undo()
    poll(host, web.url)
    assert served(host) == (release, "day-1")


def test_a_file_that_changed_since_a_cut_is_downloaded_from_its_beginning(
    shop: Shop, host: PathsConfig, web: Web
) -> None:
    release = shop.announced(1, users=USERS)
    web.cuts = [300_000, 0]
    with pytest.raises(Unreachable):
        poll(host, web.url)
    # The same release, built anew with other bytes: as by another version of the software.
    manifest = shop.folder / release / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    write_checksums(shop.folder / release)
    del web.asked[:]
    poll(host, web.url)
    assert web.starts("data.mdb") == [0]
    assert served(host) == (release, "day-1")


def test_blocked_items_follow_and_damaged_ones_keep_no_release_back(
    shop: Shop, host: PathsConfig
) -> None:
    shop.announced(1)
    poll(host, shop.url)
    block_item(shop.paths, "tea", reason="recalled", now=NOON)
    announce_blocked(shop.paths, open_target(shop.url))
    assert not poll(host, shop.url).moved
    assert read_blocked(blocked_path(host))["tea"].reason == "recalled"

    second = shop.announced(2)
    (shop.folder / "blocked.json").write_text('{"items": ["tea"]}')
    one = follower(host, shop.url)
    pulled = one.poll()
    assert (pulled.moved, "blocked.json" in pulled.problem) == (True, True)
    assert set(read_blocked(blocked_path(host))) == {"tea"}
    assert served(host) == (second, "day-2")
    state = read_pull_state(host)
    assert state is not None
    assert (state.release_id, state.epoch, state.last_error) == (second, 2, pulled.problem)
    assert state.last_success is not None and state.last_success == state.last_error_at

    third = shop.announced(
        3
    )  # blocked.json is announced whole again, and the damaged one held up nothing
    assert (one.poll().problem, served(host)) == ("", (third, "day-3"))
    state = read_pull_state(host)
    assert state is not None and state.last_error == ""
    assert not [name for name in on_disk(host) if name.startswith(".")]


def test_an_item_is_blocked_while_a_large_release_is_still_coming(
    shop: Shop, host: PathsConfig, web: Web
) -> None:
    shop.announced(1)
    one = follower(host, web.url)
    one.poll()
    web.release.clear()  # data.mdb waits before its first byte
    shop.announced(2)
    stop = threading.Event()
    loop = threading.Thread(target=one.run, args=(0.01, stop))
    loop.start()
    try:
        assert web.waiting.wait(30)
        block_item(shop.paths, "tea", reason="recalled", now=NOON)
        announce_blocked(shop.paths, open_target(shop.url))
        until(lambda: set(read_blocked(blocked_path(host))) == {"tea"})
        assert served(host)[1] == "day-1"
        web.release.set()
        until(lambda: served(host)[1] == "day-2")
    finally:
        web.release.set()
        stop.set()
        loop.join()


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    tick, ticks = threading.Event(), int(seconds / 0.01)
    for _ in range(ticks):
        if true():
            return
        tick.wait(0.01)
    raise AssertionError(f"not within {seconds} s")


def test_the_state_says_how_old_what_is_here_is(shop: Shop, host: PathsConfig) -> None:
    release = shop.announced(1)
    poll(host, shop.url)
    first = read_pull_state(host)
    assert first is not None
    assert (first.url, first.release_id, first.epoch, first.last_error) == (
        shop.url,
        release,
        1,
        "",
    )
    shop.folder.rename(shop.folder.with_name("away"))
    with pytest.raises(MissingInput):
        poll(host, shop.url)
    failed = read_pull_state(host)
    assert failed is not None
    assert (failed.release_id, failed.last_success) == (release, first.last_success)
    assert isinstance(failed.last_error_at, datetime)
    assert "nothing is announced" in failed.last_error


@pytest.mark.parametrize(
    ("place", "live"),
    [("mid-download", 1), ("after-download", 1), ("before-pointer", 1), ("after-pointer", 2)],
)
def test_a_killed_pull_leaves_a_whole_release_and_the_next_completes_it(
    shop: Shop, host: PathsConfig, place: str, live: int
) -> None:
    shop.announced(1)
    poll(host, shop.url)
    second = shop.announced(2, users=USERS)
    process = pull_process(host, shop.url, "--once", failpoint=f"pull:{place}")
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, f"failpoint pull:{place}" in said) == (-9, True), said
    assert served(host)[1] == f"day-{live}"
    poll(host, shop.url)
    assert served(host) == (second, "day-2")
    assert len(on_disk(host)) == 2


def test_a_release_that_was_brought_and_never_became_live_makes_room_for_the_next(
    shop: Shop, host: PathsConfig
) -> None:
    first = shop.announced(1)
    poll(host, shop.url)
    shop.announced(2)
    process = pull_process(host, shop.url, "--once", failpoint="pull:before-pointer")
    process.communicate(timeout=60)
    assert len(on_disk(host)) == 2
    third = shop.announced(3)
    poll(host, shop.url)
    assert on_disk(host) == {first, third}


def test_the_command_says_what_it_did(shop: Shop, host: PathsConfig) -> None:
    def recsys(*options: str) -> tuple[int, str]:
        command = ["pull", "--once", *options, "--set", f"paths.root={host.root}"]
        result = CliRunner().invoke(app, command)
        return result.exit_code, result.output

    release = shop.announced(1)
    code, said = recsys("--from", shop.url)
    assert (code, f"{release} is live, epoch 1; " in said) == (0, True), said
    code, said = recsys("--set", f"serving.pull_from={shop.url}")
    assert (code, f"{release} was live already, epoch 1; 0.0 MB" in said) == (0, True), said
    assert recsys() == (2, "error: nowhere to pull from: name the URL that releases are announced at with --from, "
                           "or set serving.pull_from\n")  # fmt: skip
    code, said = recsys("--from", f"{shop.url}/nothing-here")
    assert (code, "error: nothing is announced at" in said) == (1, True)
