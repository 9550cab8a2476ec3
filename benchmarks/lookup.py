"""The lookup service under wrk, beside its own server's constant, and a batch of lookups beside Redis.

    make setup-bench
    make bench-lookup ARGS=--quick
    make bench-lookup

Every server listens on loopback with one worker; load and servers share the machine's cores, and the sides are under
load one after the other, round by round. 20,000 users with lists of 100, of which 20 are asked for (1.1 KB); users are
drawn in turn, so that every request is another one's.

- 1 KB answer: requests per second of `recsys serve` as shipped, to those of the same application, guard, headers and
  metrics whose route answers the same bytes every time. Printed beside: the bare server, an application of two lines.
  Both are limits of this machine that every line has, with the speed of a copy of memory.
- p99: at 32 connections that ask as fast as they are answered.
- batch: users per second of POST /v1/recommendations:batch with 100 users, to the keys per second that redis-benchmark
  gets by MGET of 100 values of the size of those lists, 32 connections each.
- session: 10 recent items and a user with a stored list, 4 connections that ask as fast as they are answered.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.limits import Limits, of_memory, said
from benchmarks.lookup_sides import LIMITS, SIDES, N
from benchmarks.paired import Condition, arguments
from recsys.config.places import PathsConfig
from tests.release.making import make_release, places

CONNECTIONS, SESSION_CONNECTIONS, BATCH, RECENT, NUM_ITEMS = 32, 4, 100, 10, 5000
BODIES = 200
PATIENCE_SECONDS = 60
UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    per_second: float
    p99_ms: float


@dataclass(frozen=True)
class Length:
    rounds: int
    seconds: float
    """Of each load."""


@dataclass(frozen=True)
class Redis:
    port: int
    users: int


def main(given: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, help="of each load; default 5, 1 with --quick")
    asked = parser.parse_args(given)
    seconds = asked.seconds or (1 if asked.quick else 5)
    for tool in ("wrk", "redis-server", "redis-benchmark"):
        if not shutil.which(tool):
            sys.exit(f"no {tool} on this machine: make setup-bench")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        scripts = prepare(root, asked.users)
        ports = {side: stack.enter_context(serving(side, root)) for side in SIDES}
        redis = stack.enter_context(redis_with(asked.users, value_bytes(ports["shipped"])))
        measure(ports, redis, scripts, Length(asked.rounds, seconds))


def measure(ports: dict[str, int], redis: Redis, scripts: dict[str, Path], length: Length) -> None:
    one: dict[str, list[Load]] = {side: [] for side in ports}
    batch: list[Load] = []
    session: list[Load] = []
    mget: list[float] = []
    for _ in range(length.rounds):
        for side, port in ports.items():
            one[side].append(wrk(port, scripts["user"], CONNECTIONS, length.seconds))
        batch.append(wrk(ports["shipped"], scripts["batch"], CONNECTIONS, length.seconds))
        mget.append(redis_mget(redis, length.seconds))
        session.append(
            wrk(ports["shipped"], scripts["session"], SESSION_CONNECTIONS, length.seconds)
        )
    for side, loads in one.items():
        rate = statistics.median(load.per_second for load in loads)
        p99 = statistics.median(load.p99_ms for load in loads)
        print(f"{side}: {rate:,.0f} requests per second, p99 {p99:.2f} ms")
    keys = [BATCH * load.per_second for load in batch]
    print(f"batch: {statistics.median(keys):,.0f} users per second")
    print(f"Redis MGET: {statistics.median(mget):,.0f} keys per second")
    print(f"session: {statistics.median(load.per_second for load in session):,.0f} per second")
    limits = {**of_memory(), **of_servers({side: one[side] for side in LIMITS})}
    Condition("lookup", "1 KB answer to the same app answering a constant").report(
        rates(one["shipped"], one["constant"]), limits=limits
    )
    Condition("lookup", "p99 of a 1 KB answer, 32 connections, in ms").report(
        [load.p99_ms for load in one["shipped"]], limits=limits
    )
    Condition("lookup", "batch of 100 users to Redis MGET of 100 values, keys per second").report(
        [ours / theirs for ours, theirs in zip(keys, mget, strict=True)], limits=limits
    )
    Condition("lookup", "p99 of a session with 10 recent items, in ms").report(
        [load.p99_ms for load in session], limits=limits
    )


def of_servers(loads: Mapping[str, Sequence[Load]]) -> Limits:
    """What the servers that look nothing up can do; printed."""
    rates = {f"{side}_per_second": round(statistics.median(load.per_second for load in seen))
             for side, seen in loads.items()}  # fmt: skip
    p99 = {f"{side}_p99_ms": round(statistics.median(load.p99_ms for load in seen), 2)
           for side, seen in loads.items()}  # fmt: skip
    return said({**rates, **p99})


def rates(ours: Sequence[Load], theirs: Sequence[Load]) -> list[float]:
    return [a.per_second / b.per_second for a, b in zip(ours, theirs, strict=True)]


def prepare(root: Path, users: int) -> dict[str, Path]:
    """A live release under ``root``, and what wrk is to ask."""
    draw = random.Random(17)
    items = [f"{20_000 + n}A" for n in range(NUM_ITEMS)]
    lists = {f"u{n}": places(*draw.sample(items, 100)) for n in range(users)}
    shelves = {item: places(*draw.sample(items, 20), source="similar") for item in items}
    popular = {"": places(*items[:100], source="popular")}
    make_release(PathsConfig(root=str(root)), users=lists, items=shelves, segments=popular)
    ids = list(lists)
    bodies: dict[str, tuple[str, list[object]]] = {
        "batch": (
            "/v1/recommendations:batch",
            [{"user_ids": draw.choices(ids, k=BATCH), "n": N} for _ in range(BODIES)],
        ),
        "session": (
            "/v1/recommendations",
            [
                {"user_id": draw.choice(ids), "recent": draw.sample(items, RECENT), "n": N}
                for _ in range(BODIES)
            ],
        ),
    }
    scripts = {name: root / f"{name}.lua" for name in ("user", *bodies)}
    # A prime step: neighbours in the file are asked for far apart.
    scripts["user"].write_text(
        "local n = 0\nfunction request()\n  n = (n + 7919) % " + str(users) + "\n"
        '  return wrk.format("GET", "/v1/users/u" .. n .. "/recommendations")\nend\n'
    )
    for name, (path, contents) in bodies.items():
        texts = ",\n".join(f"[==[{json.dumps(content)}]==]" for content in contents)
        scripts[name].write_text(
            f"local bodies = {{{texts}}}\nlocal n = 0\nfunction request()\n"
            f'  n = n % {BODIES} + 1\n  return wrk.format("POST", "{path}", nil, bodies[n])\nend\n'
        )
    return scripts


@contextmanager
def serving(side: str, root: Path) -> Iterator[int]:
    """One side, answering; its port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.lookup_sides", side, str(root), str(port)]
    with ended(subprocess.Popen(command)) as process:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                ask(port)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"the {side} server did not start")
                time.sleep(0.05)
        yield port


@contextmanager
def redis_with(users: int, size: int) -> Iterator[Redis]:
    """Redis with a value of ``size`` bytes for each user."""
    port = free_port()
    command = [
        "redis-server",
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    with ended(subprocess.Popen(command, stdout=subprocess.DEVNULL)):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit("redis-server did not start")
                time.sleep(0.05)
        value = b"x" * size
        with connection, connection.makefile("rb") as answers:
            for n in range(users):
                key = b"u%d" % n
                connection.sendall(
                    b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, size, value)
                )
                if answers.readline() != b"+OK\r\n":
                    sys.exit("redis-server took no value")
        yield Redis(port, users)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def wrk(port: int, script: Path, connections: int, seconds: float) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(script),
               f"http://127.0.0.1:{port}"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"requests failed: {said}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    if rate is None or p99 is None:
        sys.exit(f"wrk said something new: {said}")
    return Load(float(rate[1]), float(p99[1]) * UNITS_MS[p99[2]])


def redis_mget(redis: Redis, seconds: float) -> float:
    """Keys per second; as many requests as take about ``seconds`` at 7,000 a second."""
    keys = [f"u{n}" for n in random.Random(23).choices(range(redis.users), k=BATCH)]
    command = ["redis-benchmark", "-p", str(redis.port), "-c", str(CONNECTIONS), "-n", str(round(7000 * seconds)),
               "--csv", "MGET", *keys]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # "name","requests per second",…: the name is the whole command.
    return BATCH * float(said.splitlines()[-1].split('","')[1].strip('"'))


def value_bytes(port: int) -> int:
    return len(ask(port))


def ask(port: int) -> bytes:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/v1/users/u0/recommendations", timeout=PATIENCE_SECONDS
    ) as response:
        answer: bytes = response.read()
    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
