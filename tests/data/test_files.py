"""The files of one as_of at one version of a Delta table."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from recsys.data import example_files
from recsys.errors import MissingInput

FIRST, SECOND = date(2024, 5, 1), date(2024, 6, 1)


def append(table: Path, as_of: date, ids: list[int]) -> None:
    rows = pa.table({"example_id": pa.array(ids), "as_of": pa.array([as_of] * len(ids))})
    write_deltalake(str(table), rows, mode="append", partition_by=["as_of"])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "training_examples"
    append(path, SECOND, [5, 6])  # version 0
    append(path, FIRST, [0, 1])  # version 1
    append(path, SECOND, [2, 3, 4])  # version 2
    append(path, SECOND, [7])  # version 3: newer than what is read
    return path


def test_files_are_those_of_the_version_and_the_day_by_their_examples(table: Path) -> None:
    files = example_files(str(table), version=2, as_of=SECOND)
    assert [file.first_example_id for file in files] == [2, 5]
    assert all(file.path and file.path.stat().st_size == file.size_bytes for file in files)


def test_a_day_without_examples_names_the_step(table: Path) -> None:
    with pytest.raises(
        MissingInput, match=r"no rows with as_of 2024-07-01 at version 2.*build_training_set"
    ):
        example_files(str(table), version=2, as_of=date(2024, 7, 1))
