"""What every place at a URL promises; the three kinds differ in nothing that a pull or a publish would see."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recsys.errors import ConfigError
from recsys.release import remote
from recsys.release.remote import Source, Unreachable, open_source, open_target
from tests.release.pull.web import web_server

CONTENT = bytes(range(256)) * 1200  # more than one read of http
Put = Callable[[str, bytes], None]


@pytest.fixture(params=["file", "memory", "http", "http without ranges"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Source, Put]]:
    """A source, and how something gets there."""
    kind = request.param
    with ExitStack() as stack:
        if kind == "memory":
            target = open_target(f"memory://shop-{os.getpid()}-{tmp_path.name}/releases")
            source: Source = target
        else:
            target = open_target(tmp_path.as_uri())
            source = target
            if kind.startswith("http"):
                web = stack.enter_context(web_server(tmp_path))
                web.knows_ranges = kind == "http"
                source = open_source(web.url + "/")
        yield source, target.write


def test_what_is_there_is_read_whole_and_from_any_byte_on(place: tuple[Source, Put]) -> None:
    source, put = place
    put("r-1/snapshot/data.mdb", CONTENT)
    assert source.size("r-1/snapshot/data.mdb") == len(CONTENT)
    assert source.read("r-1/snapshot/data.mdb") == CONTENT
    for start in (0, 1, 100_000, len(CONTENT) - 1):
        assert b"".join(source.chunks("r-1/snapshot/data.mdb", start)) == CONTENT[start:]


def test_what_is_read_at_once_has_a_bound(
    place: tuple[Source, Put], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, put = place
    monkeypatch.setattr(remote, "MOST_READ_BYTES", 1000)
    put("current", CONTENT[:1000])
    assert source.read("current") == CONTENT[:1000]
    put("current", CONTENT)
    with pytest.raises(Unreachable, match="current is longer than 1,000 bytes"):
        source.read("current")


def test_what_is_not_there_is_none_and_not_an_error(place: tuple[Source, Put]) -> None:
    source, put = place
    assert (source.read("current"), source.size("r-1/manifest.json")) == (None, None)
    with pytest.raises(Unreachable, match=r"r-1/manifest\.json"):
        list(source.chunks("r-1/manifest.json", 0))
    put("current", b"1")
    assert source.read("current") == b"1"
    put("current", b"22")
    assert (source.read("current"), source.size("current")) == (b"22", 2)


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_what_was_put_there_can_be_listed_replaced_and_removed(kind: str, tmp_path: Path) -> None:
    url = f"memory://shop-{os.getpid()}-{tmp_path.name}/made/later"
    target = open_target(url if kind == "memory" else (tmp_path / "made" / "later").as_uri())
    assert target.names() == []
    here = tmp_path / "here"
    here.write_bytes(CONTENT)
    target.upload("r-1/snapshot/data.mdb", here)
    target.upload("r-1/snapshot/data.mdb", here)
    target.write("current", b"r-1")
    assert target.names() == ["current", "r-1"]
    assert target.read("r-1/snapshot/data.mdb") == CONTENT
    target.remove("r-1")
    target.remove("never-was")
    assert target.names() == ["current"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://shop.example/releases", "http is for hosts that pull"),
        ("https://ann:secret@shop.example/releases", "holds a password"),
        ("nosuch://bucket/releases", "no place that fsspec knows"),
        ("gs://bucket/releases", "needs a package that is not installed"),
    ],
)
def test_a_url_that_cannot_be_published_to_says_why(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_target(url)
    assert "secret" not in str(caught.value)


def test_hdfs_without_hadoops_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HADOOP_HOME", "ARROW_LIBHDFS_DIR"):
        monkeypatch.setenv(name, str(tmp_path))  # nothing is there
    with pytest.raises(ConfigError, match=r"load lib(hdfs|jvm)") as caught:
        open_target("hdfs://namenode:9000/shop")
    assert "install a Hadoop client" in str(caught.value)


def test_a_namenode_that_is_down_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("HDFS connection failed: Connection refused")

    monkeypatch.setattr("fsspec.core.url_to_fs", refused)
    with pytest.raises(Unreachable, match=r"hdfs://namenode/shop does not answer.*refused"):
        open_source("hdfs://namenode/shop")


def test_a_source_that_is_down_is_unreachable(tmp_path: Path) -> None:
    with web_server(tmp_path) as web:
        url = web.url
    for ask in (lambda: open_source(url).read("current"), lambda: open_source(url).size("current")):
        with pytest.raises(Unreachable, match=r"/current does not answer as it should: URLError"):
            ask()


def test_a_folder_that_cannot_be_written_to_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "published").write_text("a file where the folder should be")
    with pytest.raises(Unreachable, match=r"NotADirectoryError|FileExistsError"):
        open_target((tmp_path / "published").as_uri()).write("current", b"")
