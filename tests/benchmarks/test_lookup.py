"""The lookup's benchmark at a tiny size: every condition is measured and judged."""

from __future__ import annotations

import pytest

from benchmarks import lookup
from tests.benchmarks.result_lines import OF_SERVERS, have_limits, results
from tests.serving.operations.tools import installed

TOOLS = ("wrk", "redis-server", "redis-benchmark")


def test_every_condition_is_measured_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    for tool in TOOLS:
        installed(tool)

    lookup.main(["--quick", "--users", "200", "--rounds", "1"])

    lines = results(capsys.readouterr().out)
    assert [(line["case"], line["wanted"]) for line in lines] == [
        ("1 KB answer to the same app answering a constant", 0.8),
        ("p99 of a 1 KB answer, 32 connections, in ms", 2),
        ("batch of 100 users to Redis MGET of 100 values, keys per second", 0.5),
        ("p99 of a session with 10 recent items, in ms", 5),
    ]
    assert all(line["ratio"] > 0 and isinstance(line["met"], bool) for line in lines)
    assert have_limits(lines, "copy_gb_s", *OF_SERVERS)
