"""Two ranks train on loopback while every listening port is tried from this machine's other interface.

``python -m tests.training.fenced FOLDER OUTSIDE_ADDRESS`` leaves what it found in FOLDER/found.json.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from pathlib import Path

from recsys.training.launch import launch
from tests.training.worlds import tiny_training, world_spec

LISTEN = "0A"
# The rendezvous stands throughout; a rank listens for the moment in which the other connects, and a loaded
# machine may look away just then: another training is watched until the ranks were seen too.
EXPECTED_LISTENERS, LAUNCHES = 3, 5


def listening() -> dict[int, str]:
    """Port -> address as the kernel lists it, of every TCP listener of this network namespace."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == LISTEN:
                address, _, port = local.rpartition(":")
                found[int(port, 16)] = address
    return found


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def main(folder: Path, outside: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as open_to_all:
        control = answers(outside, open_to_all.getsockname()[1])
    listeners: dict[int, str] = {}
    reached: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            for port, address in listening().items():
                if port not in listeners:
                    listeners[port] = address
                    # From outside alone: Gloo takes any connection for that of a rank, and dies of a stranger's.
                    if answers(outside, port):
                        reached.append(port)

    watcher = threading.Thread(target=watch)
    watcher.start()
    training = tiny_training(launcher="horovodrun", max_epochs=2, restarts=0)
    try:
        for attempt in range(LAUNCHES):
            before = len(listeners)
            results = launch(world_spec(folder / str(attempt), training=training), training, None)
            if (of_one_launch := len(listeners) - before) >= EXPECTED_LISTENERS:
                break
    finally:
        ended.set()
        watcher.join()
    found = {
        "control": control, "fits": len(results), "reached": sorted(reached),
        "of_one_launch": of_one_launch, "addresses": sorted(listeners.values()),
    }  # fmt: skip
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
