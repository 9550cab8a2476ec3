"""What is seen of a delivery before it is read: the files, their columns, their format."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.fs as pafs
import pytest

from recsys.errors import ConfigError, CorruptArtifact, MissingInput, Refused
from recsys.ingest import files
from recsys.ingest.description import SourceDescription
from recsys.ingest.files import check_columns, find_files


def described(pattern: Path | str, **change: Any) -> SourceDescription:
    return SourceDescription.model_validate({
        "name": "till",
        "kind": "events",
        "pattern": str(pattern),
        "raw_columns": {"Time": "timestamp", "Customer ID": "string", "Price": "double"},
        "columns": {"event_ts": "Time", "user_id": "Customer ID", "unit_price": "Price"},
        "event_type": "purchase",
        **change,
    })  # fmt: skip


def test_files_are_named_from_the_pattern_s_fixed_folder_on(tmp_path: Path) -> None:
    for name in ("2024/a.csv", "2023/b.csv", "c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [f.name for f in find_files(described(tmp_path / "*/*.csv"))] == [
        "2023/b.csv",
        "2024/a.csv",
    ]
    assert [f.name for f in find_files(described(tmp_path / "2024/a.csv"))] == ["a.csv"]


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize(
    "pattern", ["{day}/*.csv", "{run_date}/{day}.csv", "*/{day}.csv", "{day}/a/b.csv", "{day}.csv"]
)
def test_a_file_is_named_with_its_day(tmp_path: Path, pattern: str, scheme: str) -> None:
    place = pattern.format(day="2024-02-29", run_date="2024-03-01").replace("*", "till")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("")
    undated = f"{scheme}{tmp_path}/{pattern}"
    filled = undated.format(day="2024-02-29", run_date="2024-03-01")
    [file] = find_files(described(filled, undated_pattern=undated))
    assert file.name == place


def test_a_missing_file_is_named_with_what_lies_there_instead(tmp_path: Path) -> None:
    (tmp_path / "till_2024-03-01.csv").write_text("")
    with pytest.raises(
        MissingInput, match=r"no file matches .*till_2024-03-02.csv.*holds till_2024-03-01.csv"
    ):
        find_files(described(tmp_path / "till_2024-03-02.csv"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="the folder is not there"):
        find_files(described(tmp_path / "nowhere" / "*.csv"))


def checked(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "till.csv").write_text(text)
    description = described(tmp_path / "till.csv")
    [file] = find_files(description)
    return check_columns(description, file)


@pytest.mark.parametrize("found", ["Unit Price", "price", "Prize"])
def test_a_renamed_column_is_named_with_the_nearest(tmp_path: Path, found: str) -> None:
    with pytest.raises(Refused) as error:
        checked(tmp_path, f"Time,Customer ID,{found}\n")
    assert f"file till.csv: column 'Price' is missing; nearest in the file: '{found}'" in str(
        error.value
    )
    assert "Nothing was written" in str(error.value)


def test_a_wrong_delimiter_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"divided by ';'; the description says ','"):
        checked(tmp_path, "Time;Customer ID;Price\n")


def test_a_column_too_many_is_let_in_and_noted(tmp_path: Path) -> None:
    assert checked(tmp_path, "Time,Customer ID,Till,Price\n") == ["Till"]


def test_a_gzip_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "till.csv.gz").write_text("Time,Customer ID,Price\n")
    description = described(tmp_path / "till.csv.gz")
    with pytest.raises(
        CorruptArtifact, match=r"file till.csv.gz cannot be read: Not a gzipped file"
    ):
        check_columns(description, find_files(description)[0])


@pytest.mark.parametrize(
    "content", [b"PAR1 and no more", b"", b"PAR1" + b"x" * 100 + b"\x10\0\0\0PAR1"]
)
def test_a_parquet_file_that_breaks_off_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "till.parquet").write_bytes(content)
    description = described(tmp_path / "till.parquet", format={"type": "parquet"})
    with pytest.raises(CorruptArtifact, match=r"file till.parquet cannot be read"):
        check_columns(description, find_files(description)[0])


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_disk_or_network_that_fails_is_no_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    (tmp_path / f"till.{suffix}").write_bytes(b"")
    type_ = "parquet" if suffix == "parquet" else "csv"
    description = described(tmp_path / f"till.{suffix}", format={"type": type_})
    [file] = find_files(description)

    def fail(*_: object) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr("builtins.open", fail)
    monkeypatch.setattr("pyarrow.parquet.read_schema", fail)
    with pytest.raises(ConnectionResetError):  # exit code 1: the scheduler tries again
        check_columns(description, file)


@pytest.mark.parametrize(
    "pattern",
    [
        "*.csv",
        "2024/*.csv",
        "*/*.csv",
        "2024/??.csv",
        "**/*.csv",
        "2024/**/*.csv",
        "**/[ab]*.csv",
        "*/b/*",
    ],
)
def test_a_remote_pattern_matches_what_a_local_one_does(tmp_path: Path, pattern: str) -> None:
    for name in ("a.csv", "2024/a.csv", "2024/01.csv", "2024/b/a.csv", "2024/b/c/d.csv", ".hidden/a.csv",
                 "2024/.a.csv", "2024/A.CSV"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    local = [f.name for f in find_files(described(tmp_path / pattern))]
    remote = [f.name for f in find_files(described(f"file://{tmp_path / pattern}"))]
    assert remote == local and remote


def test_s3a_is_s3_to_pyarrow_and_an_unknown_scheme_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def from_uri(uri: str) -> tuple[pafs.FileSystem, str]:
        asked.append(uri)
        return pafs.LocalFileSystem(), "/nowhere/at/all"

    with pytest.raises(ConfigError, match=r"cannot read ftp://till.*use file, s3"):
        find_files(described("ftp://till/*.csv"))
    monkeypatch.setattr(
        files,
        "pafs",
        SimpleNamespace(**vars(pafs) | {"FileSystem": SimpleNamespace(from_uri=from_uri)}),
    )
    with pytest.raises(MissingInput, match="no file matches 's3a://till"):
        find_files(described("s3a://till/2024/*.csv"))
    assert asked == ["s3://till/2024"]
