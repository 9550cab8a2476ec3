"""The loader's benchmark at a tiny size: both sides of every condition, and what they read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet as pq

from benchmarks import loader


@pytest.fixture
def threads_as_they_were() -> Iterator[None]:
    of_torch, of_arrow = torch.get_num_threads(), pa.cpu_count()
    yield
    torch.set_num_threads(of_torch)
    pa.set_cpu_count(of_arrow)


@pytest.mark.usefixtures("threads_as_they_were")
def test_every_condition_is_measured_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    loader.main(["--quick", "--examples", "2000", "--rounds", "1"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("RESULT ")]
    results = [json.loads(line[7:]) for line in lines]
    assert [(found["case"], found["wanted"]) for found in results] == [
        ("petastorm BatchedDataLoader on list columns", 3),
        ("ParquetFile.iter_batches", 0.6),
    ]
    assert all(found["ratio"] > 0 and isinstance(found["met"], bool) for found in results)


def test_both_forms_hold_the_same_numbers(tmp_path: Path) -> None:
    [packed] = loader.write(tmp_path / "packed", 300, loader.packed, 100)
    [listed] = loader.write(tmp_path / "listed", 300, loader.listed, 100)
    for name in loader.COLUMNS:
        columns = [pq.read_table(path).column(name).combine_chunks() for path in (packed, listed)]
        ours, theirs = (loader.drain(name, column) for column in columns)
        np.testing.assert_array_equal(ours, theirs)
