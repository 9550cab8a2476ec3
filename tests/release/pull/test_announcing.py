"""Announcing: data first, the pointer last, and never an older one over a newer one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recsys.cli import app
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError, CorruptArtifact, MissingInput, Refused
from recsys.release.actions import read_actions
from recsys.release.announcement import (
    RELEASE_NAME,
    announce,
    announce_blocked,
    read_announcement,
)
from recsys.release.pins import roll_back
from recsys.release.pointer import pointer_path, read_pointer, release_folder, write_pointer
from recsys.release.remote import FsspecPlace, open_source, open_target
from recsys.release.snapshot import DATA_FILE
from recsys.sql.live import live_since
from tests.release.making import NOON, make_release
from tests.release.pull.shops import KEEP, Shop, files, poll, served


def test_what_is_announced_is_the_pointer_and_the_release_s_files(shop: Shop) -> None:
    release = shop.release(1)
    done = shop.announce()
    assert (done.uploaded, done.pointer) == (True, read_pointer(shop.paths))
    assert set(files(shop.folder)) == {
        "current", "blocked.json", f"{release}/manifest.json", f"{release}/SHA256SUMS",
        f"{release}/snapshot/data.mdb",
    }  # fmt: skip
    assert (shop.folder / "current").read_bytes() == pointer_path(shop.paths).read_bytes()
    assert json.loads((shop.folder / "current").read_text())["epoch"] == 1


def test_the_same_release_again_writes_nothing(shop: Shop) -> None:
    shop.announced(1)
    before = files(shop.folder)
    again = shop.announce()
    assert (again.uploaded, files(shop.folder)) == (False, before)


def test_a_release_that_lost_bytes_at_the_url_is_uploaded_again(
    shop: Shop, host: PathsConfig
) -> None:
    release = shop.announced(1)
    os.truncate(shop.folder / release / DATA_FILE, 5000)
    assert shop.announce().uploaded
    poll(host, shop.url)
    assert served(host) == (release, "day-1")


def test_every_change_of_the_pointer_has_a_larger_epoch(shop: Shop) -> None:
    first = shop.announced(1)
    shop.announced(2)
    epochs = [2]
    for command in (("roll-back",), ("unpin",), ("pin",)):
        assert shop.command("release", *command).exit_code == 0
        there = read_announcement(open_source(shop.url))
        assert (there, there and there.release_id) == (read_pointer(shop.paths), first)
        epochs.append(there.epoch if there else 0)
    assert epochs == [2, 3, 4, 5]
    # A pointer that was lost does not begin to count anew: hosts would take nothing from it.
    pointer_path(shop.paths).write_text("{")
    assert shop.command("release", "roll-back", "--to", first).exit_code == 0
    there = read_announcement(open_source(shop.url))
    assert there is not None
    assert there.epoch == 6


def test_a_roll_back_is_announced_and_needs_no_upload(shop: Shop) -> None:
    first = shop.announced(1)
    shop.announced(2)
    before = files(shop.folder)
    result = shop.command("release", "roll-back", "--reason", "bad lists")
    assert result.exit_code == 0, result.output
    assert f"announced at {shop.url}, epoch 3" in result.stdout
    changed = {name for name, at in files(shop.folder).items() if before.get(name) != at}
    assert changed == {"current"}
    there = read_announcement(open_source(shop.url))
    assert there is not None
    assert (there.release_id, there.pinned, there.reason) == (first, True, "bad lists")


def test_a_url_that_does_not_answer_leaves_the_roll_back_done_here_and_says_how_to_go_on(
    shop: Shop,
) -> None:
    first = shop.announced(1)
    shop.announced(2)
    shop.folder.rename(shop.folder.with_name("away"))
    shop.folder.write_text("no folder")
    result = shop.command("release", "roll-back")
    assert result.exit_code == 1
    assert (
        "is not announced there: when it answers again, `recsys release announce`" in result.stderr
    )
    live = read_pointer(shop.paths)
    assert live is not None
    assert live.release_id == first

    shop.folder.unlink()
    shop.folder.with_name("away").rename(shop.folder)
    assert shop.command("release", "announce").exit_code == 0
    assert read_announcement(open_source(shop.url)) == live


def test_an_older_announcement_does_not_replace_a_newer_one(shop: Shop, tmp_path: Path) -> None:
    shop.announced(1)
    newest = shop.announced(2)
    other = Shop(PathsConfig(root=str(tmp_path / "restored")), shop.folder)
    other.release(3)
    before = (shop.folder / "current").read_bytes()
    with pytest.raises(Refused, match=f"announces {newest} with epoch 2.*has epoch 1.*--take-over"):
        other.announce()
    assert (shop.folder / "current").read_bytes() == before

    taken = other.announce(take_over=True).pointer
    assert (taken.epoch, taken) == (3, read_pointer(other.paths))
    assert [(one.action, one.epoch, one.at) for one in read_actions(other.paths)][-1:] == [
        ("taken_over", 3, taken.at)
    ]
    with pytest.raises(Refused, match="epoch 3"):
        shop.announce()


def test_a_take_over_after_a_killed_publish_writes_both_down(shop: Shop, tmp_path: Path) -> None:
    newest = [shop.announced(day) for day in (1, 2)][-1]
    other = Shop(PathsConfig(root=str(tmp_path / "restored")), shop.folder)
    release = other.release(3)
    published = read_pointer(other.paths)
    assert published and not read_actions(other.paths)  # as a publish leaves it that is killed here
    taken = other.announce(take_over=True).pointer
    actions = read_actions(other.paths)
    assert [(one.release_id, one.action, one.at, one.epoch) for one in actions] == [
        (release, "published", published.at, 1),
        (release, "taken_over", taken.at, 3),
    ]
    assert actions[-1].reason == f"above epoch 2 of {newest}, announced at {shop.url}"
    assert live_since(taken, actions) == published.at < taken.at


def test_a_pointer_lost_after_a_take_over_does_not_fall_behind_what_was_announced(
    shop: Shop, tmp_path: Path
) -> None:
    for day in (1, 2, 3):
        shop.announced(day)
    other = Shop(PathsConfig(root=str(tmp_path / "restored")), shop.folder)
    release = other.release(4)
    assert other.announce(take_over=True).pointer.epoch == 4
    pointer_path(other.paths).write_text("{")
    roll_back(other.paths, release, reason="the pointer was damaged", now=NOON)
    assert other.announce().pointer.epoch == 5


def test_what_goes_live_during_an_upload_is_what_is_announced(shop: Shop) -> None:
    class SlowPlace(FsspecPlace):
        """While the second release goes up, a person rolls back to the first."""

        def upload(self, name: str, path: Path) -> None:
            super().upload(name, path)
            live = read_pointer(shop.paths)
            if live and live.release_id == second and name.endswith(DATA_FILE):
                roll_back(shop.paths, first, reason="", now=NOON)

    first = shop.announced(1)
    second = shop.release(2)
    done = announce(shop.paths, SlowPlace(shop.url), keep=KEEP)
    assert (done.pointer.release_id, done.pointer.epoch) == (first, 3)
    assert read_announcement(open_source(shop.url)) == read_pointer(shop.paths)


def test_what_goes_live_while_a_publisher_takes_over_is_uploaded_before_it_is_announced(
    shop: Shop, tmp_path: Path
) -> None:
    other = Shop(PathsConfig(root=str(tmp_path / "restored")), shop.folder)

    class SlowPlace(FsspecPlace):
        """While it says what is announced there, a person rolls back to what was never uploaded."""

        def read(self, name: str) -> bytes | None:
            content = super().read(name)
            live = read_pointer(other.paths)
            if name == "current" and live and live.release_id == second:
                roll_back(other.paths, first, reason="", now=NOON)
            return content

    shop.announced(1)
    shop.announced(2)
    first, second = other.release(3), other.release(4)
    done = announce(other.paths, SlowPlace(shop.url), keep=KEEP, take_over=True)
    assert (done.pointer.release_id, done.uploaded) == (first, True)
    assert read_announcement(open_source(shop.url)) == read_pointer(other.paths) == done.pointer
    assert (shop.folder / first / DATA_FILE).is_file()


def test_an_unreadable_announcement_is_written_again(shop: Shop) -> None:
    shop.announced(1)
    (shop.folder / "current").write_text("{")
    with pytest.raises(CorruptArtifact, match="announce`, where releases are published"):
        read_announcement(open_source(shop.url))
    shop.announce()
    assert read_announcement(open_source(shop.url)) == read_pointer(shop.paths)


def test_old_releases_go_from_the_url_but_none_that_may_be_needed(shop: Shop) -> None:
    names = [shop.announced(day) for day in range(1, 6)]
    (shop.folder / "logs").mkdir()  # not ours
    (shop.folder / ".current.4711").write_text("of a killed announcement")
    for name in names[:3]:
        # As publish's own sweep does; the third stays the pointer's previous one.
        release_folder(shop.paths, name).rename(shop.paths.root + f"/{name}")
    live = read_pointer(shop.paths)
    assert live is not None
    write_pointer(shop.paths, live.model_copy(update={"previous": names[2]}))
    (shop.folder / "current").unlink()
    assert shop.announce().removed == (names[1], names[0])
    assert set(open_target(shop.url).names()) == {"logs", "current", "blocked.json", *names[2:]}


def test_what_cannot_be_announced_says_so(shop: Shop) -> None:
    with pytest.raises(MissingInput, match="no release is live"):
        shop.announce()
    release = shop.release(1)
    (release_folder(shop.paths, release) / DATA_FILE).unlink()
    with pytest.raises(
        CorruptArtifact, match=r"is live and has no .*data\.mdb: nothing was uploaded"
    ):
        shop.announce()
    assert not (shop.folder / "current").exists()
    result = CliRunner().invoke(
        app, ["release", "announce", "--set", f"paths.root={shop.paths.root}"]
    )
    assert (result.exit_code, "publish.url is empty" in result.stderr) == (2, True)


ANNOUNCE = """
import sys
from recsys.config.places import PathsConfig
from recsys.release.announcement import announce
from recsys.release.remote import open_target
announce(PathsConfig(root=sys.argv[1]), open_target(sys.argv[2]), keep=2)
"""


@pytest.mark.parametrize(
    ("place", "announced"),
    [
        ("after-snapshot/data.mdb", 1),
        ("after-manifest.json", 1),
        ("before-pointer", 1),
        ("after-pointer", 2),
    ],
)
def test_a_killed_announcement_leaves_a_whole_release_and_the_next_completes_it(
    shop: Shop, host: PathsConfig, place: str, announced: int
) -> None:
    shop.announced(1)
    second = shop.release(2)
    killed = subprocess.run(
        [sys.executable, "-c", ANNOUNCE, shop.paths.root, shop.url],
        env={**os.environ, "RECSYS_FAILPOINT": f"announce:{place}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (killed.returncode, f"failpoint announce:{place}" in killed.stderr) == (-9, True)

    poll(host, shop.url)
    assert served(host)[1] == f"day-{announced}"

    shop.announce()
    poll(host, shop.url)
    assert served(host) == (second, "day-2")
    assert not shop.announce().uploaded


def test_a_host_that_pulls_decides_nothing_by_itself(shop: Shop, host: PathsConfig) -> None:
    release = shop.announced(1)
    poll(host, shop.url)
    here = Shop(host, shop.folder)
    for command in (("pin",), ("unpin",), ("roll-back", "--to", release), ("announce",)):
        result = here.command("release", *command)
        assert (result.exit_code, f"this host follows {shop.url}" in result.stderr) == (2, True), (
            command
        )
    with pytest.raises(ConfigError, match="is decided where releases are published"):
        announce_blocked(host, open_target(shop.url))
    assert f"follows {shop.url}" in here.command("release", "list").stdout


def test_the_name_of_a_release_is_what_the_sweep_takes_it_for(shop: Shop) -> None:
    assert RELEASE_NAME.fullmatch(make_release(shop.paths, date(2024, 6, 9)).release_id)
