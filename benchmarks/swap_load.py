"""A load of wrk that looks at every answer: is it whole, and from the release that it names?"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lookup import PATIENCE_SECONDS, UNITS_MS

CONNECTIONS = 32


@dataclass(frozen=True)
class Seen:
    """What wrk saw."""

    answers: int
    wrong: int
    p99_ms: float


def script(root: Path, first: str, users: int) -> Path:
    """wrk's: it asks for one user after the other and looks at each answer."""
    path = root / "look.lua"
    path.write_text(
        f"local n, first, users = 0, '\"{first}\"', {users}\nlocal threads = {{}}\nanswers, wrong = 0, 0\n"
        "function setup(thread) table.insert(threads, thread) end\n"
        "function request()\n  n = (n + 7919) % users\n"
        '  return wrk.format("GET", "/v1/users/u" .. n .. "/recommendations")\nend\n'
        "function response(status, headers, body)\n  answers = answers + 1\n"
        '  local a = body:find(\'"item_id":"a\', 1, true) ~= nil\n'
        '  local b = body:find(\'"item_id":"b\', 1, true) ~= nil\n'
        "  local is_first = body:find(first, 1, true) ~= nil\n"
        "  if status ~= 200 or a == b or a ~= is_first then wrong = wrong + 1 end\nend\n"
        "function done()\n  for _, thread in ipairs(threads) do\n"
        '    print("answers " .. thread:get("answers") .. " wrong " .. thread:get("wrong"))\n  end\nend\n'
    )
    return path


class Load:
    """wrk, from ``with`` to its end."""

    def __init__(self, port: int, look: Path) -> None:
        self._command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d600s", "--latency", "-s", str(look),
                         f"http://127.0.0.1:{port}"]  # fmt: skip
        self.seen: Seen | None = None

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        said, _ = self._process.communicate(timeout=PATIENCE_SECONDS)
        p99, looked = (
            re.search(r"99%\s+([\d.]+)(us|ms|s)", said),
            re.search(r"answers (\d+) wrong (\d+)", said),
        )
        if p99 is None or looked is None:
            sys.exit(f"wrk said something new: {said}")
        lost = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", said)))
        self.seen = Seen(int(looked[1]), int(looked[2]) + lost, float(p99[1]) * UNITS_MS[p99[2]])


def loaded(port: int, look: Path, seconds: float) -> Seen:
    with Load(port, look) as load:
        time.sleep(seconds)
    assert load.seen
    return load.seen
