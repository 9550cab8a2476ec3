"""The files of one as_of at one version of a Delta table."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from recsys.data import example_files
from recsys.errors import ContractError, MissingInput

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


def rewrite_statistics(table: Path, version: int, change: Callable[[dict[str, Any]], None]) -> None:
    """As another writer may have left them in the log."""
    log = table / "_delta_log" / f"{version:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "add" in action:
            statistics = json.loads(action["add"]["stats"])
            change(statistics)
            action["add"]["stats"] = json.dumps(statistics)
    log.write_text("\n".join(map(json.dumps, actions)))


def without_least_and_most(statistics: dict[str, Any]) -> None:
    del statistics["minValues"], statistics["maxValues"]


def no_rows(statistics: dict[str, Any]) -> None:
    without_least_and_most(statistics)
    statistics["numRecords"] = 0


def test_a_file_without_statistics_is_refused_and_not_left_out(table: Path) -> None:
    rewrite_statistics(table, 2, without_least_and_most)
    said = r"training file .*\.parquet has no statistics of example_id.*build_training_set again"
    with pytest.raises(ContractError, match=said):
        example_files(str(table), version=2, as_of=SECOND)
    assert len(example_files(str(table), version=2, as_of=FIRST)) == 1


def test_a_table_that_was_written_without_any_statistics_is_refused(table: Path) -> None:
    for version in range(4):
        rewrite_statistics(table, version, without_least_and_most)
    with pytest.raises(ContractError, match="has no statistics of example_id"):
        example_files(str(table), version=2, as_of=SECOND)


def test_a_file_without_rows_is_left_out(table: Path) -> None:
    rewrite_statistics(table, 2, no_rows)
    files = example_files(str(table), version=2, as_of=SECOND)
    assert [file.first_example_id for file in files] == [5]
