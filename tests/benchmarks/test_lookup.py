"""The lookup's benchmark at a tiny size: every condition is measured and judged."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks import lookup

TOOLS = ("wrk", "redis-server", "redis-benchmark")


@pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason="needs wrk and redis-server: make setup-bench"
)
def test_every_condition_is_measured_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    lookup.main(["--quick", "--users", "200", "--rounds", "1"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("RESULT ")]
    results = [json.loads(line[7:]) for line in lines]
    assert [(found["case"], found["wanted"]) for found in results] == [
        ("1 KB answer to the same app answering a constant", 0.8),
        ("p99 of a 1 KB answer, 32 connections, in ms", 2),
        ("batch of 100 users to Redis MGET of 100 values, keys per second", 0.5),
        ("p99 of a session with 10 recent items, in ms", 5),
    ]
    assert all(found["ratio"] > 0 and isinstance(found["met"], bool) for found in results)
    assert results[0]["bare_server_per_second"] > 0
