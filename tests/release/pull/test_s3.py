"""Releases through a bucket: published, pulled, cut off in mid-download, over S3's own protocol.

The set-up does not bring s3fs and a server to test it with (docs/adr/0005-the-lock.md says how the lock is made, and
botocore asks for an older python-dateutil than it has). To run these:

    uv pip install --target DIR 's3fs>=2024.6' 'moto[s3]>=5' flask flask-cors
    PYTHONPATH=DIR pytest tests/release/pull/test_s3.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest

from recsys.config.places import PathsConfig
from recsys.errors import Refused
from recsys.release.announcement import announce, read_announcement
from recsys.release.pins import roll_back
from recsys.release.remote import FsspecPlace, Unreachable, open_source, open_target
from recsys.release.snapshot import DATA_FILE
from tests.release.making import NOON
from tests.release.pull.s3 import SETTINGS, Wire, make_bucket, s3_server, wire_to
from tests.release.pull.shops import KEEP, Shop, on_disk, poll, served

missing = [name for name in ("s3fs", "moto", "flask", "flask_cors") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(missing), reason=f"needs {', '.join(missing)} (see the head of this file)"
)

USERS = 1500
"""Their snapshot takes a megabyte."""
CONTENT = bytes(range(256)) * 1200


@dataclass(frozen=True)
class S3Shop(Shop):
    """A publisher whose URL names a folder of a bucket."""

    bucket: str = ""

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/shop/releases"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def wire(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """What s3fs is told to connect to. Its file systems are kept by fsspec and would go on asking an older wire."""
    kept = fsspec.get_filesystem_class("s3")

    with wire_to(server) as wire:
        for name, value in {**SETTINGS, "AWS_ENDPOINT_URL": wire.url}.items():
            monkeypatch.setenv(name, value)
        kept.clear_instance_cache()
        yield wire
        kept.clear_instance_cache()


@pytest.fixture
def bucket(server: str, wire: Wire, request: pytest.FixtureRequest) -> str:
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    make_bucket(server, name)
    return name


@pytest.fixture
def shop(tmp_path: Path, bucket: str) -> S3Shop:
    return S3Shop(PathsConfig(root=str(tmp_path / "publisher")), tmp_path, bucket)


def test_a_bucket_promises_what_every_place_does(bucket: str, tmp_path: Path) -> None:
    place = open_target(f"s3://{bucket}/made/later")
    here = tmp_path / "here"
    here.write_bytes(CONTENT)

    assert (place.names(), place.read("current"), place.size("current")) == ([], None, None)
    for _ in range(2):
        place.upload("r-1/snapshot/data.mdb", here)
    for content in (b"1", b"22"):
        place.write("current", content)
        assert (place.read("current"), place.size("current")) == (content, len(content))
    assert place.names() == ["current", "r-1"]
    for start in (0, 1, 100_000, len(CONTENT) - 1):
        assert b"".join(place.chunks("r-1/snapshot/data.mdb", start)) == CONTENT[start:]
    with pytest.raises(Unreachable, match=r"r-1/manifest\.json"):
        list(place.chunks("r-1/manifest.json", 0))
    place.remove("r-1")
    place.remove("never-was")
    assert place.names() == ["current"]


def test_a_release_is_uploaded_the_pointer_last_and_pulled_and_rolled_back(
    shop: S3Shop, host: PathsConfig, wire: Wire
) -> None:
    first = shop.announced(1)
    written = [path.partition("/shop/releases/")[2] for path in wire.puts()]
    assert written == [
        f"{first}/{DATA_FILE}", f"{first}/manifest.json", f"{first}/SHA256SUMS", "blocked.json", "current",
    ]  # fmt: skip
    assert poll(host, shop.url).moved
    assert served(host) == (first, "day-1")

    second = shop.announced(2)
    poll(host, shop.url)
    assert served(host) == (second, "day-2")
    third, fourth = shop.announced(3), shop.announced(4)
    names = open_target(shop.url).names()
    assert names == sorted({*on_disk(shop.paths), "blocked.json", "current"})
    assert {third, fourth} <= set(names)

    roll_back(shop.paths, third, reason="bad lists", now=NOON)
    shop.announce()
    poll(host, shop.url)
    assert served(host) == (third, "day-3")
    wire.mend()
    assert not poll(host, shop.url).moved
    assert len(wire.asked) <= 4, "what is live already costs two small reads"


def test_an_older_announcement_does_not_replace_a_newer_one_in_a_bucket(
    shop: S3Shop, tmp_path: Path
) -> None:
    shop.announced(1)
    newest = shop.announced(2)
    other = S3Shop(PathsConfig(root=str(tmp_path / "restored")), tmp_path, shop.bucket)
    other.release(3)
    with pytest.raises(Refused, match=f"announces {newest} with epoch 2"):
        other.announce()


def test_a_bucket_that_is_cut_off_in_mid_download_leaves_what_is_live_and_goes_on_where_it_stopped(
    shop: S3Shop, host: PathsConfig, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.release.remote.CHUNK_BYTES", 1 << 16)
    monkeypatch.setattr("recsys.release.remote.BLOCK_BYTES", 1 << 16)
    shop.announced(1)
    poll(host, shop.url)
    second = shop.announced(2, users=USERS)
    wire.left = 500_000

    with pytest.raises(Unreachable, match=f"{second}/snapshot/data.mdb does not answer"):
        poll(host, shop.url)
    assert wire.left == 0  # the fault landed
    assert served(host)[1] == "day-1"
    [partial] = [name for name in on_disk(host) if name.startswith(".pulling-")]
    here = (host.releases / partial / DATA_FILE).stat().st_size
    assert 0 < here < 500_000

    wire.mend()
    pulled = poll(host, shop.url)
    whole = (host.releases / second / DATA_FILE).stat().st_size
    assert whole - here <= pulled.downloaded_bytes < whole
    assert wire.passed < whole, "what was there did not come again"
    assert served(host) == (second, "day-2")


def test_an_upload_that_is_cut_off_announces_nothing_and_the_next_completes_it(
    shop: S3Shop, host: PathsConfig, wire: Wire
) -> None:
    class CutPlace(FsspecPlace):
        """The wire breaks once the data is there, before the manifest."""

        def upload(self, name: str, path: Path) -> None:
            super().upload(name, path)
            wire.left = 0

    first = shop.announced(1)
    shop.release(2)
    with pytest.raises(Unreachable, match=r"not announced there: .*`recsys release announce`"):
        announce(shop.paths, CutPlace(shop.url), keep=KEEP)
    wire.mend()
    there = read_announcement(open_source(shop.url))
    assert there is not None
    assert there.release_id == first
    shop.announce()
    poll(host, shop.url)
    assert served(host)[1] == "day-2"


def test_a_bucket_that_is_not_there_says_so(wire: Wire, host: PathsConfig) -> None:
    with pytest.raises(Unreachable, match=r"NoSuchBucket|bucket does not exist|FileNotFoundError"):
        open_target("s3://no-such-bucket/shop").write("current", b"")
