"""Places at a URL: where a publisher puts releases, and where lookup hosts take them from.

``http:`` and ``https:`` are read with the standard library (``http_place``), everything else (``file:``,
``s3:``, ``hdfs:``, ``memory:``, …) through fsspec, whose packages are imported only for their own URLs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from recsys.errors import ConfigError, RecsysError
from recsys.records import write_atomically
from recsys.release.snapshot_builder import sync_folder

CHUNK_BYTES = 1 << 20
BLOCK_BYTES = 8 << 20
"""What an object store is asked for at a time."""
MOST_READ_BYTES = 16 << 20
"""Of what is read at once: a pointer, checksums, the blocked items."""


class Unreachable(RecsysError):
    """A place at a URL did not answer, or broke off; what is live here stays, and trying again is right."""


class Source(Protocol):
    """A place that releases are read from. Names are relative to the URL; folders are divided by ``/``."""

    url: str

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""
        ...

    def read(self, name: str) -> bytes | None:
        """A small file; None where there is none."""
        ...

    def chunks(self, name: str, start: int) -> Iterator[bytes]:
        """A file's bytes from ``start`` on. Raises Unreachable wherever the connection is cut."""
        ...


class Target(Source, Protocol):
    """A place that releases are written to."""

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file: readers see the old one or the new one."""
        ...

    def upload(self, name: str, path: Path) -> None:
        """Replace a large file; readers may see a part of it until this returns."""
        ...

    def names(self) -> list[str]:
        """What lies at the URL itself."""
        ...

    def remove(self, name: str) -> None:
        """A file, or a folder with all that is in it; nothing where there is none."""
        ...


def open_source(url: str) -> Source:
    """The place at ``url``, to read from; nothing is asked of it yet, but of ``hdfs:``.

    Raises:
        ConfigError: no such kind of URL, or the package or library that reads it is not installed.
        Unreachable: ``hdfs:``, which connects at once, does not answer.
    """
    _check(url)
    if urlsplit(url).scheme in {"http", "https"}:
        from recsys.release.http_place import HttpPlace  # noqa: PLC0415  (that module needs this one)

        return HttpPlace(url)
    return FsspecPlace(url)


def open_target(url: str) -> Target:
    """The place at ``url``, to write to.

    Raises:
        ConfigError: as ``open_source``; or the kind of URL can only be read.
    """
    _check(url)
    if urlsplit(url).scheme in {"http", "https"}:
        raise ConfigError(
            f"cannot publish to {url}: http is for hosts that pull; publish to the folder or the bucket "
            "that the web server shows (publish.url=file:///…, s3://…)"
        )
    return FsspecPlace(url)


def _check(url: str) -> None:
    if urlsplit(url).password:
        raise ConfigError(
            f"the URL of {urlsplit(url).hostname} holds a password, which would end up in logs and files: "
            "leave it to the client's own settings (for S3 AWS_PROFILE or AWS_ACCESS_KEY_ID)"
        )


class FsspecPlace:
    """A folder of any file system that fsspec knows.

    ``write`` is atomic on ``file:`` (a rename) and on object stores (an object appears when it is whole). On
    others, such as ``hdfs:``, a reader may meet a part of the pointer; it then keeps what it has and asks again.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415  (http does without)

            # A listing that was remembered would hide what another process has published since.
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            package = getattr(error, "name", None) or error
            raise ConfigError(
                f"{self.url} needs a package that is not installed ({package}): pip install fsspec, and what it "
                "needs for this kind of URL (s3: s3fs; hdfs: pyarrow); http needs nothing"
            ) from None
        except OSError as error:
            raise _unopened(self.url, error) from None
        except ValueError as error:
            raise ConfigError(f"{self.url} is no place that fsspec knows: {error}") from None
        self._root = root.rstrip("/")
        is_local = "file" in self._fs.protocol
        self._folder = Path(self._root) if is_local else None

    def size(self, name: str) -> int | None:
        with self._asking(name):
            try:
                return int(self._fs.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes | None:
        with self._asking(name):
            try:
                content = self._fs.cat_file(self._path(name), end=MOST_READ_BYTES + 1)
            except FileNotFoundError:
                return None
        return small(self.url, name, content)

    def chunks(self, name: str, start: int) -> Iterator[bytes]:
        with (
            self._asking(name),
            self._fs.open(
                self._path(name), "rb", block_size=BLOCK_BYTES, cache_type="readahead"
            ) as file,
        ):
            file.seek(start)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def write(self, name: str, content: bytes) -> None:
        with self._asking(name):
            if self._folder is not None:
                write_atomically(self._folder / name, content)
            else:
                self._fs.pipe_file(self._path(name), content)

    def upload(self, name: str, path: Path) -> None:
        with self._asking(name):
            if self._folder is not None:
                _copy_durably(path, self._folder / name)
            else:
                self._fs.put_file(str(path), self._path(name))

    def names(self) -> list[str]:
        with self._asking(""):
            try:
                found = self._fs.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
            return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def remove(self, name: str) -> None:
        with self._asking(name):
            try:
                self._fs.rm(self._path(name), recursive=True)
            except FileNotFoundError:
                pass

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each file system raises what its client library raises
            raise unreachable(self.url, name, error) from error


def _unopened(url: str, error: OSError) -> RecsysError:
    """What to say where a file system did not open: pyarrow's loads Hadoop's library, and connects, when it is made."""
    said = " ".join(str(error).split())[:200]
    if "load libhdfs" in said or "load libjvm" in said:
        return ConfigError(
            f"{url} is read with Hadoop's native library and Java, which are not here ({said}): install a Hadoop "
            "client and Java, and set HADOOP_HOME, JAVA_HOME and CLASSPATH=$(hadoop classpath --glob) (and "
            "ARROW_LIBHDFS_DIR where libhdfs.so is not in $HADOOP_HOME/lib/native); or let hosts pull over http"
        )
    return Unreachable(f"{url} does not answer as it should: {type(error).__name__}: {said}")


def unreachable(url: str, name: str, error: Exception) -> Unreachable:
    """What to say when ``error`` came of asking ``url`` for ``name``."""
    said = " ".join(str(error).split())[:200]
    return Unreachable(f"{url}/{name} does not answer as it should: {type(error).__name__}: {said}")


def small(url: str, name: str, content: bytes) -> bytes:
    """What was read at once, of at most ``MOST_READ_BYTES`` + 1 bytes.

    Raises:
        Unreachable: it is longer than anything that a publisher writes there.
    """
    if len(content) > MOST_READ_BYTES:
        raise Unreachable(
            f"{url}/{name} is longer than {MOST_READ_BYTES:,} bytes: it is not what a publisher writes"
        )
    return bytes(content)


def _copy_durably(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(source, "rb") as reading, open(temporary, "wb") as writing:
            shutil.copyfileobj(reading, writing, CHUNK_BYTES)
            writing.flush()
            os.fsync(writing.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
