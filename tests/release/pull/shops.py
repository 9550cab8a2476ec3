"""What publishers and hosts do in these tests, in few words."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from typer.testing import CliRunner, Result

from recsys.cli import app
from recsys.config.places import PathsConfig
from recsys.release.announcement import Announced, announce
from recsys.release.following import Follower
from recsys.release.opening import open_release
from recsys.release.pointer import (
    Pointer,
    next_epoch,
    pointer_lock,
    read_pointer,
    release_folder,
    write_pointer,
)
from recsys.release.pull import Pulled
from recsys.release.remote import open_source, open_target
from recsys.release.stored_list import decode
from tests.release.making import NOON, make_release, places

KEEP = 2
RECSYS = str(Path(sys.executable).parent / "recsys")


@dataclass(frozen=True)
class Shop:
    """A publisher."""

    paths: PathsConfig
    folder: Path
    """What its URL names."""

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def release(self, day: int, *, users: int = 3) -> str:
        """Make a release of that day of June, live here; each user's first item names the day."""
        lists = {
            f"user-{n:05}": places(f"day-{day}", *(f"item-{m}" for m in range(9)))
            for n in range(users)
        }
        made = make_release(self.paths, date(2024, 6, day), users=lists, live=False).release_id
        with pointer_lock(self.paths):
            live = read_pointer(self.paths)
            write_pointer(
                self.paths,
                Pointer(
                    release_id=made,
                    previous=live.release_id if live else "",
                    at=NOON,
                    epoch=next_epoch(self.paths, live),
                ),
            )
        return made

    def announce(self, *, take_over: bool = False) -> Announced:
        return announce(self.paths, open_target(self.url), keep=KEEP, take_over=take_over)

    def announced(self, day: int, *, users: int = 3) -> str:
        """``release``, announced."""
        made = self.release(day, users=users)
        self.announce()
        return made

    def command(self, *arguments: str) -> Result:
        options = ("--set", f"paths.root={self.paths.root}", "--set", f"publish.url={self.url}")
        return CliRunner().invoke(app, [*arguments, *options])


def follower(host: PathsConfig, url: str) -> Follower:
    return Follower(host, open_source(url), now=lambda: datetime.now(UTC))


def poll(host: PathsConfig, url: str) -> Pulled:
    return follower(host, url).poll()


def served(host: PathsConfig) -> tuple[str, str]:
    """The release that a service on ``host`` would open, verified, and the first item that it offers."""
    pointer = read_pointer(host)
    assert pointer is not None
    with open_release(release_folder(host, pointer.release_id)) as snapshot:
        value = snapshot.get("users", "user-00000")
        assert value is not None
        return snapshot.release_id, decode(value)[0].item_id


def files(folder: Path) -> dict[str, int]:
    """Every file below, and when it was written."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def on_disk(host: PathsConfig) -> set[str]:
    """Whatever lies beside the pointer, but the files that every host has."""
    beside = {"current", "pull_state.json", "blocked.json", "blocked.copy.json"}
    return {path.name for path in host.releases.iterdir()} - beside


def pull_process(
    host: PathsConfig, url: str, *options: str, failpoint: str = ""
) -> subprocess.Popen[str]:
    """`recsys pull`, as a process of its own."""
    command = [RECSYS, "pull", "--from", url, *options, "--set", f"paths.root={host.root}"]
    return subprocess.Popen(
        command, env={**os.environ, "RECSYS_FAILPOINT": failpoint}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
