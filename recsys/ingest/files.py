"""Find a source's files and look at what can be seen without reading them through."""

from __future__ import annotations

import csv
import difflib
import fnmatch
import glob
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from recsys.config.places import CHECKOUT
from recsys.errors import ConfigError, CorruptArtifact, MissingInput, Refused
from recsys.ingest.description import Format, SourceDescription

_WILD = re.compile(r"[*?\[]|\{(day|run_date)\b")
_SHOWN = 8  # names in a message
S3_SCHEMES = {"s3a": "s3", "s3n": "s3"}


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: the unit that is replaced when it is ingested again."""

    name: str
    """Path below the pattern's fixed folder: the same on every machine, and of each day its own."""
    path: str
    """Where it is read from: an absolute path or a URI."""


def find_files(description: SourceDescription) -> list[SourceFile]:
    """The files that the pattern matches, by name.

    Raises:
        MissingInput: none does; the message names what lies there instead.
    """
    pattern = description.pattern
    if "://" in pattern:
        paths = _remote_paths(pattern)
    else:
        found = glob.glob(absolute(pattern), recursive=True)
        paths = sorted(path for path in found if Path(path).is_file())
    if not paths:
        raise MissingInput(
            f"source {description.name!r}: no file matches {pattern!r}{_beside(pattern)}: "
            "deliver the file, or mend `pattern` in the source's description"
        )
    return [SourceFile(path_below(description, path) or _last_part(path), path) for path in paths]


def absolute(place: str) -> str:
    """The path or URI; a relative path is one below the checkout."""
    return place if "://" in place or place.startswith("/") else str(CHECKOUT / place)


def path_below(description: SourceDescription, path: str) -> str:
    """What the pattern leaves open of ``path``, the day that it names included; empty if that is nothing."""
    fixed = _fixed_part(absolute(description.undated_pattern or description.pattern))
    return path[len(fixed) :].strip("/")


@contextmanager
def open_bytes(path: str) -> Iterator[IO[bytes]]:
    """The file's bytes, through gzip when its name ends in .gz."""
    if "://" in path:
        filesystem, inner = _filesystem(path)
        raw: IO[bytes] = filesystem.open_input_stream(inner, compression=None)
    else:
        raw = open(path, "rb")
    with raw:
        if path.endswith(".gz"):
            with gzip.open(raw, "rb") as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield raw


@contextmanager
def open_text(path: str, encoding: str) -> Iterator[IO[str]]:
    """The file's text; bytes that are no text come through as lone surrogates. Line ends as they are."""
    with open_bytes(path) as raw:
        yield io.TextIOWrapper(raw, encoding=encoding, errors="surrogateescape", newline="")


def check_columns(description: SourceDescription, file: SourceFile) -> list[str]:
    """Look at the file's first line (or schema); returns the columns it has beyond the described ones.

    Raises:
        Refused: a described column is missing; the nearest is named, or the delimiter it seems to have.
        CorruptArtifact: the file breaks off or is not of its format.
    """
    wanted = list(description.raw_columns)
    found = file_columns(description.format, file)
    if found is None:  # nothing to look at: JSON lines, or a file without a header or without rows
        return []
    if missing := [name for name in wanted if name not in found]:
        spare = [name for name in found if name not in wanted]
        lines = []
        for name in missing[:_SHOWN]:
            near = _nearest_column(name, spare)
            lines.append(
                f"column {name!r} is missing" + (f"; nearest in the file: {near!r}" if near else "")
            )
        hint = _other_delimiter(description.format, found, wanted)
        raise Refused(
            f"source {description.name!r}, file {file.name}: " + "\n  ".join(lines)
            + f"\n  Columns in the file: {', '.join(map(repr, found[:20]))}"
            + (f"\n  {hint}" if hint else "")
            + "\n  Nothing was written. Have the file delivered as described, or mend `raw_columns` and `format` "
            "in the source's description"
        )  # fmt: skip
    return [name for name in found if name not in wanted]


def file_columns(format_: Format, file: SourceFile) -> list[str] | None:
    """The names in the file's header or schema; None where the format has none or the file is empty."""
    with reading(file):
        if format_.type == "parquet":
            return list(pq.read_schema(*_parquet_place(file.path)).names)
        if format_.type == "csv" and format_.header:
            with open_text(file.path, format_.encoding) as lines:
                return next(
                    csv.reader(lines, delimiter=format_.delimiter, quotechar=format_.quote), None
                )
    return None


def parquet_rows(file: SourceFile) -> int:
    """The number of rows that the file's footer names."""
    with reading(file):
        path, filesystem = _parquet_place(file.path)
        return int(pq.read_metadata(path, filesystem=filesystem).num_rows)


@contextmanager
def reading(file: SourceFile) -> Iterator[None]:
    """Turn what a broken file raises into an error that names the file; a network that fails is left alone.

    Raises:
        CorruptArtifact: the file is truncated or not of its format.
    """
    try:
        yield
    except BROKEN as error:
        raise CorruptArtifact(broken_message(file.name, error)) from None
    except OSError as error:
        # pyarrow says it so when a Parquet footer is damaged.
        if "deserialize thrift" not in str(error):
            raise
        raise CorruptArtifact(broken_message(file.name, error)) from None


BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, ValueError)
"""What the content of a file raises. An OSError (permission, network, disk) says nothing about the content: the
next try may read the file."""


def broken_message(name: str, error: BaseException) -> str:
    """What to say of a file that cannot be read to its end."""
    if isinstance(error, EOFError):
        what = "is a truncated gzip: it ends before its end-of-stream marker"
    else:
        what = f"cannot be read: {str(error)[:200]}"
    return f"file {name} {what}. Nothing was written. Have it delivered again, then run again"


def _fixed_part(pattern: str) -> str:
    """The pattern as far as the first part that differs from file to file or from night to night."""
    return "/".join(takewhile(lambda part: not _WILD.search(part), pattern.split("/")))


def _fixed_folder(pattern: str) -> str:
    return _fixed_part(pattern.rpartition("/")[0])


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _remote_paths(pattern: str) -> list[str]:
    folder = _fixed_folder(pattern)
    filesystem, inner = _filesystem(folder)
    infos = filesystem.get_file_info(pafs.FileSelector(inner, recursive=True, allow_not_found=True))
    tails = [info.path[len(inner) :] for info in infos if info.type == pafs.FileType.File]
    wanted = pattern[len(folder) :].lstrip("/").split("/")
    return sorted(folder + tail for tail in tails if _matches(tail.lstrip("/").split("/"), wanted))


def _matches(parts: list[str], wanted: list[str]) -> bool:
    """Part by part, as ``glob`` does on a local disk: ``*`` stays within a part, ``**`` takes any number of them."""
    if not wanted:
        return not parts
    if wanted[0] == "**":
        # No part, or one that is not hidden and the rest.
        skips = bool(parts) and not parts[0].startswith(".") and _matches(parts[1:], wanted)
        return skips or _matches(parts, wanted[1:])
    if not parts or (parts[0].startswith(".") and not wanted[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])


def _filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """pyarrow's filesystem and the path in it. What Hadoop calls s3a and s3n is s3 there.

    Raises:
        ConfigError: a scheme that pyarrow does not know.
    """
    scheme, _, rest = uri.partition("://")
    try:
        filesystem, path = pafs.FileSystem.from_uri(f"{S3_SCHEMES.get(scheme, scheme)}://{rest}")
    except pa.ArrowInvalid as error:
        raise ConfigError(f"cannot read {uri}: {error}; use file, s3, s3a, gs or hdfs") from None
    return filesystem, path


def _parquet_place(path: str) -> tuple[str, pafs.FileSystem]:
    if "://" in path:
        filesystem, inner = _filesystem(path)
        return inner, filesystem
    return path, pafs.LocalFileSystem()


def _beside(pattern: str) -> str:
    """What lies where the pattern looks, for a message."""
    if "://" in pattern:
        return ""
    folder = Path(_fixed_folder(absolute(pattern)))
    if not folder.is_dir():
        return " (the folder is not there)"
    names = sorted(path.name for path in folder.iterdir())
    near = (
        difflib.get_close_matches(Path(pattern).name, names, n=_SHOWN, cutoff=0.5) or names[:_SHOWN]
    )
    return f" (the folder holds {', '.join(near)})" if near else " (the folder is empty)"


def _nearest_column(name: str, spare: list[str]) -> str | None:
    """By letters, or because one name contains the other (Price, Unit Price)."""
    near = difflib.get_close_matches(name.lower(), [s.lower() for s in spare], n=1, cutoff=0.5)
    for other in spare:
        if other.lower() in near or name.lower() in other.lower() or other.lower() in name.lower():
            return other
    return None


def _other_delimiter(format_: Format, found: list[str], wanted: list[str]) -> str:
    if format_.type != "csv" or len(found) != 1:
        return ""
    for delimiter in ",;\t|":
        if len(set(found[0].split(delimiter)) & set(wanted)) > len(wanted) // 2:
            return (
                f"The file seems to be divided by {delimiter!r}; the description says {format_.delimiter!r} "
                "(format.delimiter)"
            )
    return ""
