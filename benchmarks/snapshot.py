"""Building a snapshot from Arrow, swapping releases under load, and rolling back.

    make setup-bench
    make bench-snapshot ARGS=--quick
    make bench-snapshot

- build: lists of 100 items a user as Arrow batches, encoded, appended to LMDB and synced, to py-lmdb's
  putmulti(append=True) of the same keys and values, ready in memory, into a synced file of the same kind.
- file to payload: bytes of the snapshot's file to those of its keys and values.
- swaps: `recsys serve` with one worker under wrk, 32 connections that ask as fast as they are answered, while two
  releases take turns, 100 times in all; every answer is looked at: a status but 200, and items of another release than
  the answer names, count. p99 is compared with that of the same load without swaps.
- roll-back: two workers as shipped, looking for a new pointer every half second; from the call until 32 open
  connections, some to each worker, all get the earlier release.

Beside them, as limits: the speed of a copy of memory; for what is served also the same application answering a
constant, and the bare server, each under the load of the swaps.
"""

from __future__ import annotations

import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import psutil

from benchmarks import lookup
from benchmarks.limits import Limits, of_memory
from benchmarks.lookup import PATIENCE_SECONDS, ended, free_port
from benchmarks.lookup_sides import LIMITS
from benchmarks.paired import Condition, arguments
from benchmarks.snapshot_build import N, measure_build
from benchmarks.swap_load import CONNECTIONS, Load, Seen, loaded, script
from recsys.config.places import PathsConfig
from recsys.config.sections import PublishConfig
from recsys.records import write_atomically
from recsys.release.pins import roll_back
from recsys.release.pointer import release_folder
from recsys.release.snapshot import MANIFEST_FILE
from tests.release.making import make_live, make_release, places, write_checksums

GOLDEN_USERS = PublishConfig().golden_users
WORKERS = 2
SWAP_POLL_SECONDS = 0.05
"""Of the service that is swapped under load, so that 100 swaps do not take minutes."""
RECSYS = str(Path(sys.executable).with_name("recsys"))


@dataclass(frozen=True)
class Size:
    users: int = 100_000
    """Of the snapshot that is built."""
    served: int = 20_000
    """Of the releases that are swapped."""
    swaps: int = 100
    seconds: float = 5
    """Of the load without swaps, each round."""


QUICK = Size(users=20_000, served=4000, swaps=20, seconds=1)

Served = tuple[PathsConfig, list[str]]
"""Where releases lie, and their ids."""


def releases(root: Path, users: int) -> Served:
    """Two whole releases; all items of the one begin with a, of the other with b."""
    paths = PathsConfig(root=str(root))
    made = []
    for day, letter in enumerate("ab", start=1):
        listed = places(*(f"{letter}{num}" for num in range(N)))
        lists = {f"u{num}": listed for num in range(users)}
        popular = {"": places(f"{letter}1", source="popular")}
        release = make_release(paths, date(2024, 6, day), users=lists, items={}, segments=popular)
        golden = dict(list(release.golden_users.items())[:GOLDEN_USERS])
        folder = release_folder(paths, release.release_id)
        few = release.model_copy(update={"golden_users": golden})
        write_atomically(folder / MANIFEST_FILE, few.to_json().encode())
        write_checksums(folder)
        made.append(release.release_id)
    return paths, made


@contextmanager
def serving(paths: PathsConfig, *settings: str) -> Iterator[tuple[int, int]]:
    """`recsys serve`; its port, and its process."""
    port = free_port()
    options = [
        f"paths.root={paths.root}",
        f"serving.port={port}",
        "serving.default_n=20",
        *settings,
    ]
    command = [RECSYS, "serve", *(word for option in options for word in ("--set", option))]
    with ended(subprocess.Popen(command, stdout=subprocess.DEVNULL)) as process:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("the service did not start")
            time.sleep(0.05)
        yield port, process.pid


def connected(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)


def release_at(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/v1/users/u1/recommendations?n=1")
    return str(json.loads(connection.getresponse().read())["release"])


def answers(port: int) -> bool:
    try:
        return bool(release_at(connected(port)))
    except OSError:
        return False


def of_servers(served: Served, size: Size) -> Limits:
    """What the servers that look nothing up can do under the load of the swaps."""
    paths, made = served
    look = script(Path(paths.root), made[0], size.served)
    seen = {}
    for side in LIMITS:
        with lookup.serving(side, Path(paths.root)) as port:
            seen[side] = [lookup.wrk(port, look, CONNECTIONS, size.seconds)]
    return lookup.of_servers(seen)


def measure_swaps(served: Served, size: Size, limits: Limits, rounds: int) -> None:
    paths, made = served
    look = script(Path(paths.root), made[0], size.served)
    quiet: list[Seen] = []
    swapped: list[Seen] = []
    each = -(-size.swaps // rounds)
    with serving(paths, f"serving.poll_seconds={SWAP_POLL_SECONDS}") as (port, _):
        watching = connected(port)
        for _ in range(rounds):
            quiet.append(loaded(port, look, size.seconds))
            with Load(port, look) as load:
                for swap in range(each):
                    make_live(paths, made[swap % 2])
                    until(watching, made[swap % 2])
            assert load.seen
            swapped.append(load.seen)
    for name, found in (("steady", quiet), ("swaps", swapped)):
        p99 = statistics.median(seen.p99_ms for seen in found)
        print(f"{name}: {sum(seen.answers for seen in found)} answers, p99 {p99:.2f} ms")
    wrong = [float(seen.wrong) for seen in swapped]
    Condition("snapshot", "answers failed or mixed in 100 swaps").report(
        [sum(wrong)],
        swaps=each * rounds,
        answers=sum(seen.answers for seen in swapped),
        limits=limits,
    )
    Condition("snapshot", "p99 in swaps to steady").report(
        [b.p99_ms / a.p99_ms for a, b in zip(quiet, swapped, strict=True)], limits=limits
    )


def until(connection: http.client.HTTPConnection, release_id: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while release_at(connection) != release_id:
        if time.monotonic() > deadline:
            sys.exit(f"{release_id} is not served")
        time.sleep(0.005)


def measure_roll_back(served: Served, limits: Limits, rounds: int) -> None:
    paths, made = served
    make_live(paths, made[0])
    taken = []
    with serving(paths, f"serving.workers={WORKERS}") as (port, pid):
        asking = [connected(port) for _ in range(CONNECTIONS)]
        for _ in range(rounds):
            make_live(paths, made[1])
            for connection in asking:
                until(connection, made[1])
            assert workers_asked(pid) == WORKERS
            started = time.perf_counter()
            roll_back(paths, made[0], reason="benchmark", now=datetime.now(UTC))
            for connection in asking:
                until(connection, made[0])
            taken.append(time.perf_counter() - started)
    Condition("snapshot", "roll-back until every worker serves it, in s").report(
        taken, workers=WORKERS, limits=limits
    )


def workers_asked(pid: int) -> int:
    """Processes of the service that someone is connected to."""
    return sum(
        any(one.status == psutil.CONN_ESTABLISHED for one in worker.net_connections("tcp"))
        for worker in psutil.Process(pid).children(recursive=True)
    )


def main(given: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--users", type=int, help="of the snapshot that is built")
    asked = parser.parse_args(given)
    size = QUICK if asked.quick else Size()
    if asked.users:
        size = Size(asked.users, asked.users, swaps=4 * asked.rounds, seconds=1)
    if not shutil.which("wrk"):
        sys.exit("no wrk on this machine: make setup-bench")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        memory = of_memory()
        measure_build(root, size.users, memory, asked.rounds)
        served = releases(root / "served", size.served)
        limits = {**memory, **of_servers(served, size)}
        measure_swaps(served, size, limits, asked.rounds)
        measure_roll_back(served, limits, asked.rounds)


if __name__ == "__main__":
    main()
