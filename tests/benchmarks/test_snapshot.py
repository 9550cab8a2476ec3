"""The benchmark of snapshots at a tiny size: every condition is measured and judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import snapshot
from benchmarks.swap_load import loaded, script
from tests.benchmarks.result_lines import OF_SERVERS, have_limits, results
from tests.serving.operations.tools import installed

WANTED = {
    "build from Arrow to putmulti of the same bytes": 0.4,
    "file to payload": 1.5,
    "answers failed or mixed in 100 swaps": 0,
    "p99 in swaps to steady": 2,
    "roll-back until every worker serves it, in s": 1,
}


def test_every_condition_is_measured_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    installed("wrk")

    snapshot.main(["--users", "100", "--rounds", "1"])

    lines = results(capsys.readouterr().out)
    assert {line["case"]: line["wanted"] for line in lines} == WANTED
    swaps = lines[2]
    assert swaps["met"] and swaps["answers"] > 0 and swaps["swaps"] == 4
    assert have_limits(lines[:2], "copy_gb_s")
    assert have_limits(lines[2:], "copy_gb_s", *OF_SERVERS)


def test_an_answer_with_items_of_another_release_than_it_names_is_counted(tmp_path: Path) -> None:
    installed("wrk")
    paths, made = snapshot.releases(tmp_path, 20)
    mistaken = script(tmp_path, made[0], 20)  # takes the other release for the one of the a's
    mistaken.write_text(mistaken.read_text().replace(made[0], made[1]))
    with snapshot.serving(paths) as (port, _):
        seen = loaded(port, mistaken, 0.5)
    assert seen.wrong == seen.answers > 0
