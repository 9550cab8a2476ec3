"""The service as it is shipped under five times the connections it works on, for 20 s. ``-rP`` shows the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recsys.config.places import PathsConfig
from tests.release.making import make_release
from tests.serving.operations.servers import Server, free_port, running
from tests.serving.operations.tools import installed

PATH = "/v1/users/ana/recommendations?n=3"
STEADY, OVERLOAD = 32, 320
"""Connections."""


def wrk(server: Server, connections: int, seconds: int) -> dict[str, Any]:
    """Ask as fast as the service answers; a refused client asks again at once, Retry-After or not."""
    script = Path(__file__).with_name("overload.lua")
    done = subprocess.run(
        [
            *(installed("wrk"), "-t1", f"-c{connections}", f"-d{seconds}"),
            *("-s", str(script), server.address + PATH),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    heard: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    heard["accepted_per_second"] = round(heard["accepted"] / heard["seconds"])
    print(connections, "connections:", heard)  # noqa: T201
    return heard


@pytest.mark.slow
def test_overload_is_refused_and_what_is_accepted_is_as_much_as_before(tmp_path: Path) -> None:
    make_release(PathsConfig(root=str(tmp_path)))
    port = free_port()
    recsys = str(Path(sys.executable).parent / "recsys")
    settings = (f"paths.root={tmp_path}", f"serving.port={port}", "serving.max_in_flight=64")
    command = [recsys, "serve", *(word for one in settings for word in ("--set", one))]
    with running(command, port, "/readyz") as server:
        wrk(server, STEADY, 2)
        before = wrk(server, STEADY, 10)
        rush = wrk(server, OVERLOAD, 20)
        after = [wrk(server, STEADY, 1) for _ in range(5)]

    for heard in (before, rush, *after):
        assert (heard["others"], heard["broken"], heard["without_retry_after"]) == (0, 0, 0)
    assert before["refused"] == sum(one["refused"] for one in after) == 0
    assert rush["refused"] > 0
    assert rush["accepted_per_second"] >= 0.8 * before["accepted_per_second"]
    # Of five seconds one at least is as quick as it was, with room for a busy machine.
    assert min(one["p99_milliseconds"] for one in after) <= 2 * before["p99_milliseconds"]
