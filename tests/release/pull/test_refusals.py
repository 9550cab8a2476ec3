"""What a host refuses to take, and what it serves meanwhile: something whole, always."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys.blocked import block_item, blocked_path, read_blocked
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError, Conflict, CorruptArtifact, MissingInput, Refused
from recsys.locks import exclusive
from recsys.release.actions import actions_path
from recsys.release.announcement import announce_blocked
from recsys.release.pointer import pointer_path, release_folder
from recsys.release.pull_state import pull_state_path, read_pull_state
from recsys.release.remote import Unreachable, open_target
from recsys.release.snapshot import CHECKSUMS_FILE, DATA_FILE
from tests.release.making import NOON
from tests.release.pull.shops import (
    RECSYS,
    Shop,
    follower,
    on_disk,
    poll,
    served,
)
from tests.release.pull.web import Web
from tests.small_disk import run_on_small_disk


def flip_a_byte(folder: Path) -> None:
    data = folder / DATA_FILE
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)


def another_release(folder: Path) -> None:
    other = next(one for one in folder.parent.iterdir() if one.is_dir() and one != folder)
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


def a_file_too_many_bytes(folder: Path) -> None:
    with open(folder / DATA_FILE, "ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, "checksum of .* is off"),
        (a_file_too_many_bytes, "is off"),
        (another_release, "holds release"),
    ],
)
def test_a_damaged_release_is_refused_and_looked_at_again_when_it_is_mended(
    shop: Shop, host: PathsConfig, web: Web, damage: Callable[[Path], None], message: str
) -> None:
    shop.announced(1)
    one = follower(host, web.url)
    one.poll()
    second = shop.announced(2)
    shutil.copytree(shop.folder / second, shop.folder.with_name("whole"))
    damage(shop.folder / second)
    with pytest.raises(CorruptArtifact, match=message):
        one.poll()
    assert served(host)[1] == "day-1"
    assert not [name for name in on_disk(host) if name.startswith(".")]
    shutil.rmtree(shop.folder / second)
    shop.folder.with_name("whole").rename(shop.folder / second)
    one.poll()
    assert served(host) == (second, "day-2")


def test_a_loop_does_not_download_a_damaged_release_over_and_over(
    shop: Shop, host: PathsConfig, web: Web
) -> None:
    release = shop.announced(1)
    flip_a_byte(shop.folder / release)
    one = follower(host, web.url)

    loop = threading.get_ident()

    class Stop(threading.Event):
        """Ends the loop after its sixth look."""

        looks = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.looks += threading.get_ident() == loop
            if self.looks == 6:
                self.set()
            return super().wait(0.001)

    one.run(0.001, Stop())
    assert len(web.starts("data.mdb")) == 1
    state = read_pull_state(host)
    assert state is not None
    assert "is off" in state.last_error


def test_an_older_announcement_takes_no_host_back(
    shop: Shop, host: PathsConfig, tmp_path: Path
) -> None:
    shop.announced(1)
    lagging = tmp_path / "mirror"
    shutil.copytree(shop.folder, lagging)
    second = shop.announced(2)
    poll(host, shop.url)
    block_item(shop.paths, "tea", reason="recalled", now=NOON)
    announce_blocked(shop.paths, open_target(shop.url))
    poll(host, shop.url)
    with pytest.raises(
        Refused, match=f"with epoch 1, but {second} is live here with epoch 2: an older"
    ):
        poll(host, lagging.as_uri())
    assert served(host) == (second, "day-2")
    assert set(read_blocked(blocked_path(host))) == {"tea"}

    other = Shop(PathsConfig(root=str(tmp_path / "second publisher")), tmp_path / "elsewhere")
    other.release(3)
    other.release(4)
    other.announce()
    with pytest.raises(Refused, match="or another publisher's"):  # the same epoch
        poll(host, other.url)
    pointer_path(host).unlink()  # what the message says
    poll(host, other.url)
    assert served(host)[1] == "day-4"


def test_a_copy_that_lost_its_bytes_is_brought_again(shop: Shop, host: PathsConfig) -> None:
    shop.announced(1)
    second = shop.announced(2)
    poll(host, shop.url)
    flip_a_byte(release_folder(host, second))
    assert not poll(host, shop.url).moved  # not looked at: each poll would read gigabytes
    shutil.rmtree(release_folder(host, second))
    assert poll(host, shop.url).downloaded_bytes > 0
    assert served(host) == (second, "day-2")
    # Damaged and then announced anew: verified before the pointer names it.
    flip_a_byte(release_folder(host, second))
    shop.command("release", "pin")
    assert poll(host, shop.url).downloaded_bytes > 0
    assert served(host) == (second, "day-2")


def test_an_unreadable_pointer_here_is_replaced(shop: Shop, host: PathsConfig) -> None:
    release = shop.announced(1)
    poll(host, shop.url)
    pointer_path(host).write_text("{")
    assert poll(host, shop.url).moved
    assert served(host) == (release, "day-1")


def test_a_folder_that_is_published_to_is_not_pulled_into(shop: Shop) -> None:
    shop.announced(1)
    shop.command("release", "pin")
    before = pointer_path(shop.paths).read_bytes()
    with pytest.raises(ConfigError, match="pull into another folder"):
        poll(shop.paths, shop.url)
    assert pointer_path(shop.paths).read_bytes() == before
    assert not pull_state_path(shop.paths).exists()
    assert actions_path(shop.paths).exists()


def test_what_cannot_be_pulled_says_why(shop: Shop, host: PathsConfig, web: Web) -> None:
    with pytest.raises(
        MissingInput, match=f"nothing is announced at {web.url}: publish a run date"
    ):
        poll(host, web.url)
    release = shop.announced(1)
    (shop.folder / release / CHECKSUMS_FILE).unlink()
    with pytest.raises(Unreachable, match=f"announces {release}, but its SHA256SUMS is not there"):
        poll(host, web.url)
    shop.announce()
    (shop.folder / release / DATA_FILE).unlink()
    with pytest.raises(Unreachable, match=r"data\.mdb is announced, but not there"):
        poll(host, web.url)
    (shop.folder / "current").write_text('{"release_id": "../../etc", "at": 0}')
    with pytest.raises(CorruptArtifact, match=r"announcement .* is unreadable"):
        poll(host, web.url)
    lock = host.locks / "pull.lock"
    shop.announce()
    with (
        exclusive(lock, wait=False, what="a pull"),
        pytest.raises(Conflict, match="already running"),
    ):
        poll(host, web.url)


TOO_LATE = """
import sys
from recsys.release import pull
pull.SPARE_BYTES = -1 << 40  # the disk fills up while the download runs
from recsys.cli import app
sys.argv[0] = "recsys"
app()
"""


@pytest.mark.parametrize("known", ["before", "in mid-download"])
def test_a_full_disk_is_said_and_what_is_live_stays(shop: Shop, tmp_path: Path, known: str) -> None:
    shop.announced(1, users=3000)
    disk = tmp_path / "disk"
    command = [RECSYS] if known == "before" else [sys.executable, "-c", TOO_LATE]
    options = ["pull", "--once", "--from", shop.url, "--set", f"paths.root={disk}"]
    done = run_on_small_disk([*command, *options], disk, megabytes=1, env={})
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"the disk of {disk}/releases is too full for release 2024-06-01" in done.stderr
    said = "MB more" if known == "before" else "did not fit"
    assert said in done.stderr
    assert "Traceback" not in done.stderr
