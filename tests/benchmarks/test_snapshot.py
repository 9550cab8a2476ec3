"""The benchmark of snapshots at a tiny size: every condition is measured and judged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import snapshot
from benchmarks.swap_load import loaded, script

WANTED = {
    "build from Arrow to putmulti of the same bytes": 0.4,
    "file to payload": 1.5,
    "answers failed or mixed in 100 swaps": 0,
    "p99 in swaps to steady": 2,
    "roll-back until every worker serves it, in s": 1,
}


@pytest.mark.skipif(not shutil.which("wrk"), reason="needs wrk: make setup-bench")
def test_every_condition_is_measured_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    snapshot.main(["--users", "100", "--rounds", "1"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("RESULT ")]
    results = {found["case"]: found for found in (json.loads(line[7:]) for line in lines)}
    assert {case: found["wanted"] for case, found in results.items()} == WANTED
    swaps = results["answers failed or mixed in 100 swaps"]
    assert swaps["met"] and swaps["answers"] > 0 and swaps["swaps"] == 4


@pytest.mark.skipif(not shutil.which("wrk"), reason="needs wrk: make setup-bench")
def test_an_answer_with_items_of_another_release_than_it_names_is_counted(tmp_path: Path) -> None:
    paths, made = snapshot.releases(tmp_path, 20)
    mistaken = script(tmp_path, made[0], 20)  # takes the other release for the one of the a's
    mistaken.write_text(mistaken.read_text().replace(made[0], made[1]))
    with snapshot.serving(paths) as (port, _):
        seen = loaded(port, mistaken, 0.5)
    assert seen.wrong == seen.answers > 0
