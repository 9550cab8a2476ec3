"""A publish over a live release, killed at each of its steps, with two services beside it that are asked all the time.

One serves where releases are published, the other on a host that pulls them. Whatever the step, each answers all from
one whole release, the one before or the new one, and so does a service that is started then; the same publish again
goes through. tests/release/test_random_kills.py kills at moments that have no name.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from recsys.config.places import PathsConfig
from recsys.release import announcement, publish, shelf, snapshot_builder
from recsys.release.announcement import read_announcement
from recsys.release.opening import open_release
from recsys.release.pointer import Pointer, read_pointer, release_folder
from recsys.release.remote import open_source
from recsys.sql.duck import open_lake
from tests.release.asking import Asked, answered_anew, asked, service
from tests.release.forking_publisher import KEEP
from tests.release.publisher import USERS, write_number
from tests.release.shop import copy_published

CHECKOUT = Path(__file__).parents[2]
STEPS = (
    "publish:described",  # nothing is written yet
    "publish:wrote-users",  # a part of the snapshot
    "publish:wrote-items",
    "snapshot:before-sync",
    "snapshot:after-sync",
    "write:manifest.json",  # each file: written and synced beside, without its name
    "write:SHA256SUMS",
    "publish:after-snapshot",
    "publish:after-verify",
    "publish:after-rename",
    "write:data_files.json",
    "publish:before-pointer",
    "write:current",
    "publish:after-pointer",  # live from here on; the log of actions does not say so yet
    "publish:before-table",
    "publish:after-table",
    "publish:after-served",
    "shelf:set-aside",  # an old release has lost its name, and is not removed
    "announce:after-snapshot/data.mdb",
    "announce:after-manifest.json",
    "announce:before-pointer",
    "announce:after-pointer",  # announced from here on
)
"""In the order in which a publish comes to them."""
LIVE = STEPS[STEPS.index("publish:after-pointer") :]
ANNOUNCED = STEPS[STEPS.index("announce:after-pointer") :]


@dataclass(frozen=True)
class Ended:
    pid: int
    status: int
    said: str
    """On standard error."""


@dataclass
class Publishing:
    """A shop, its publisher, who is asked meanwhile, and on which host."""

    here: PathsConfig
    host: PathsConfig
    url: str
    process: subprocess.Popen[str]
    errors: Path
    number: int = 0
    """Of the lists that were scored last."""

    def score(self) -> int:
        """Newer lists."""
        self.number += 1
        write_number(self.here, self.number)
        return self.number

    def publish(self, failpoint: str = "") -> Ended:
        """Publish the newest lists; how its process ended."""
        before = self.errors.stat().st_size
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{self.number} {failpoint}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("ended "):
                _, pid, status = line.split()
                return Ended(int(pid), int(status), self.errors.read_text()[before:])
        raise AssertionError(self.errors.read_text()[before:])

    @property
    def live(self) -> Pointer | None:
        return read_pointer(self.here)

    @property
    def announced(self) -> Pointer | None:
        return read_announcement(open_source(self.url))


@contextmanager
def publisher(here: PathsConfig, url: str, errors: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.release.forking_publisher", here.root, url]
    with open(errors, "ab") as log:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )  # fmt: skip
    try:
        yield process
    finally:
        process.communicate()  # the end of its input ends it


@pytest.fixture(scope="module")
def publishing(shop_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publishing]:
    """Number 1 is live and announced."""
    root = tmp_path_factory.mktemp("killed")
    here, host = PathsConfig(root=str(root / "publisher")), PathsConfig(root=str(root / "host"))
    copy_published(shop_tables, Path(here.lake_uri))
    url, errors = (root / "published").as_uri(), root / "errors.txt"
    with publisher(here, url, errors) as process:
        publishing = Publishing(here, host, url, process, errors)
        publishing.score()
        first = publishing.publish()
        assert first.status == 0, first.said
        yield publishing


@pytest.fixture(scope="module")
def answers(publishing: Publishing) -> Iterator[tuple[Asked, Asked]]:
    """What is answered where releases are published, and on the host that pulls."""
    pull = (f"serving.pull_from={publishing.url}", "serving.pull_seconds=0.1")
    with ExitStack() as open_:
        here = open_.enter_context(service(publishing.here))
        there = open_.enter_context(service(publishing.host, *pull))
        yield open_.enter_context(asked(here)), open_.enter_context(asked(there))


def releases_and_times(paths: PathsConfig) -> tuple[dict[str, int], dict[str, int]]:
    """Release -> how often the table says that it was published, and how many users it was kept for."""
    published = "SELECT release_id, count(*) FROM releases WHERE action = 'published' GROUP BY 1"
    kept = "SELECT release_id, count(*) FROM served_history GROUP BY 1"
    with open_lake(paths) as lake:
        times, users = (
            {release: count for release, count in lake.query(sql)[1]} for sql in (published, kept)
        )
    return times, users


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", STEPS)
def test_a_publish_killed_here_is_answered_around_and_goes_through_again(
    step: str, publishing: Publishing, answers: tuple[Asked, Asked]
) -> None:
    before, old = publishing.live, str(publishing.number)
    assert before is not None and publishing.announced == before
    for seen in answers:
        seen.until_served(before.release_id)
        seen.numbers.clear()
    new = str(publishing.score())

    killed = publishing.publish(step)

    assert killed.status == -signal.SIGKILL, killed.said
    assert f"failpoint {step}: killing process {killed.pid}\n" in killed.said
    live, announced = publishing.live, publishing.announced
    assert live is not None and announced is not None
    assert (live != before, announced != before) == (step in LIVE, step in ANNOUNCED)
    open_release(release_folder(publishing.here, live.release_id)).close()
    for seen, pointer in zip(answers, (live, announced), strict=True):
        seen.until_served(pointer.release_id)
    paths, pointer = publishing.here, live
    if step.startswith("announce:"):
        paths, pointer = publishing.host, announced
    anew = answered_anew(paths)
    number = old if pointer == before else new
    assert (anew.numbers, anew.wrong) == ({pointer.release_id: {number}}, [])

    again = publishing.publish()

    assert again.status == 0, again.said
    after = publishing.live
    assert after is not None and publishing.announced == after
    assert (after == live) == (step in LIVE)  # the pointer of the killed one stays as it was
    for seen in answers:
        seen.until_served(after.release_id)
        assert seen.numbers in (
            {before.release_id: {old}, after.release_id: {new}},
            {after.release_id: {new}},
        )
        assert not seen.wrong
    published, kept = releases_and_times(publishing.here)
    assert (published[after.release_id], kept[after.release_id]) == (1, USERS)
    wanted = {before.release_id, after.release_id, "current", "actions.jsonl"}
    assert {path.name for path in publishing.here.releases.iterdir()} == wanted
    assert len(wanted & {before.release_id, after.release_id}) == KEEP


def test_every_place_where_a_publish_can_be_killed_is_a_step() -> None:
    modules = (publish, snapshot_builder, shelf, announcement)
    text = "".join(Path(str(module.__file__)).read_text() for module in modules)
    places = [
        re.sub(r"\\\{.*?\\\}", ".+", re.escape(name))
        for name in re.findall(r'failpoint\(f?"([^"]+)"\)', text)
    ]
    assert len(places) > 10
    assert not [place for place in places if not any(re.fullmatch(place, step) for step in STEPS)]
    assert not [
        step
        for step in STEPS
        if not step.startswith("write:") and not any(re.fullmatch(place, step) for place in places)
    ]
