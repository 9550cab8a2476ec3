"""What is seen of a delivery before it is read: the files, their columns, their format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recsys.errors import CorruptArtifact, MissingInput, Refused
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


def test_a_parquet_file_that_breaks_off_is_named(tmp_path: Path) -> None:
    (tmp_path / "till.parquet").write_bytes(b"PAR1 and no more")
    description = described(tmp_path / "till.parquet", format={"type": "parquet"})
    with pytest.raises(CorruptArtifact, match=r"file till.parquet cannot be read"):
        check_columns(description, find_files(description)[0])
