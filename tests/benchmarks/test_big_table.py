"""The big table's benchmark at a tiny size: every condition, on two ranks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import big_table
from benchmarks.zipf import zipf


@pytest.mark.horovod
def test_every_condition_is_measured_and_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "of-somebody-else").touch()
    big_table.main(["--rows", "20000", "--rounds", "1", "--folder", str(folder)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("RESULT ")]
    found = [json.loads(line.removeprefix("RESULT ")) for line in lines]
    assert [(line["case"], line["wanted"]) for line in found] == [
        ("memory above an idle rank to table and optimizer state", 1.25),
        ("memory above an idle rank during a save to table and optimizer state", 2.2),
        ("checkpoint speed to a file copy", 0.5),
        ("training paused of the time of a checkpoint", 0.25),
    ]
    assert all(line["ratio"] > 0 and line["rows"] == 20000 for line in found)
    assert [line["met"] for line in found] == [None] * 4, "the targets are about 10M rows"
    assert {"save_at_rest_seconds", "save_seconds"} <= found[2].keys()
    assert {"paused_seconds", "slower_seconds", "with_slower_steps"} <= found[3].keys()
    first, last = found[0]["loss"]
    assert last < first, "it trains"
    left = [path.name for path in folder.iterdir()]
    assert left == ["of-somebody-else"], "the folder is the user's, what was made in it is gone"


def test_ids_are_of_the_table_and_the_first_is_the_most_frequent() -> None:
    ids = zipf(np.random.default_rng(1), 200_000, 1000)
    assert (ids.min(), ids.max()) == (0, 999)
    counts = np.bincount(ids, minlength=1000)
    assert counts.argmax() == 0
    # Between two places the share falls as their ratio to the power of 1.05.
    assert counts[9:11].mean() / counts[99:111].mean() == pytest.approx(10**1.05, rel=0.15)
