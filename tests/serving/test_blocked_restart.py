"""`recsys serve`, restarted on a disk whose list of blocked items is damaged: what was recalled stays off."""

from __future__ import annotations

import subprocess
import time
from datetime import date
from pathlib import Path

import pytest

from recsys.blocked import block_item, blocked_path
from recsys.config.places import PathsConfig
from tests.release.making import NOON, make_release
from tests.serving.operations.servers import PATIENCE_SECONDS, Server, free_port, running
from tests.serving.test_http import RECSYS


def offered(server: Server) -> list[str]:
    items = server.get("/v1/users/ana/recommendations?n=3").json()["items"]
    return [item["item_id"] for item in items]


def until_well(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while server.get("/readyz").json()["degraded"]:
        assert time.monotonic() < deadline, server.get("/readyz").text
        time.sleep(0.02)


@pytest.mark.parametrize("damage", ["cut short", "removed"])
def test_a_restart_with_a_damaged_file_hides_what_was_blocked_and_the_next_block_mends_it(
    tmp_path: Path, damage: str
) -> None:
    paths, port = PathsConfig(root=str(tmp_path)), free_port()
    make_release(paths, date(2024, 6, 1))
    block_item(paths, "tea", reason="recalled", now=NOON)
    where = ["--set", f"paths.root={paths.root}"]
    command = [RECSYS, "serve", *where, "--set", f"serving.port={port}",
               "--set", "serving.blocked_poll_seconds=0.02"]  # fmt: skip
    with running(command, port, "/readyz") as server:
        assert offered(server) == ["cup", "pot"]

    file = blocked_path(paths)
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:20])
    with running(command, port, "/readyz") as server:
        assert offered(server) == ["cup", "pot"]
        ready = server.get("/readyz").json()
        assert (ready["ready"], ready["degraded"]) == (True, True)
        assert "blocked.json is unreadable" in ready["problem"]
        assert "`recsys block-item`" in ready["problem"]
        assert (server.metric("recsys_degraded"), server.metric("recsys_blocked_items")) == (1, 1)

        mend = [RECSYS, "block-item", "tea", "--reason", "recalled", *where]
        subprocess.run(mend, check=True, capture_output=True)
        until_well(server)
        assert offered(server) == ["cup", "pot"]
