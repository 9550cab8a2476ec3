"""A shop's raw files to an answer of the lookup service: a whole first night and the service's start.

    make bench-end_to_end
    make bench-end_to_end ARGS=--quick

A generated shop of 100,000 users and 5 million events; every step with its seconds, its share of the whole and the
peak memory of all its processes. There is nothing to compare it with and no target: the lines have no "wanted".
Each has the machine's limits: a plain product of the shop's users and items, and a copy of memory.

With --quick the two ends alone, in under a minute: ingest of a shop of 300 users, nearly all of it what Spark takes to
start and to compile, and the service's start over a release made by hand. What lies between is left out, for a night of
any size takes two cores minutes: no line has a share, and none is of the whole.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.limits import Limits, of_products
from benchmarks.lookup import free_port
from benchmarks.night import Step, beginning, condition, night, options
from recsys.config.places import CHECKOUT, PathsConfig
from recsys.config.sections import TrainingConfig
from tests.release.making import make_release

SHOP = "generated_shop"
RUN_DATE = "2024-04-30"
PATIENCE_SECONDS = 60.0
WHOLE = "raw files to the first answer"
ENDS = "ingest and the service's start alone"
DIM = TrainingConfig().embedding_dim


@dataclass(frozen=True)
class Size:
    users: int = 100_000
    items: int = 20_000
    events: int = 5_000_000
    run_date: str = RUN_DATE
    others: tuple[str, ...] = ()
    """Settings beside."""

    @property
    def overrides(self) -> list[str]:
        said = {"users": self.users, "items": self.items, "events": self.events}
        return [*(f"generate_shop.{name}={value}" for name, value in said.items()), *self.others]


QUICK = Size(users=300, items=200, events=12_000)


def first_answer(root: Path) -> float:
    """Seconds from the start of `recsys serve` to its first answer, what is popular."""
    port = free_port()
    places = options(root, SHOP, [f"serving.port={port}"])
    started = time.monotonic()
    service = subprocess.Popen([Path(sys.executable).with_name("recsys"), "serve", *places])
    try:
        while time.monotonic() - started < PATIENCE_SECONDS:
            try:
                url = f"http://127.0.0.1:{port}/v1/popular?n=1"
                with urllib.request.urlopen(url, timeout=1) as answer:
                    json.load(answer)
                return time.monotonic() - started
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.02)
        raise SystemExit(f"the service did not answer within {PATIENCE_SECONDS:.0f} s")
    finally:
        service.terminate()
        service.wait(PATIENCE_SECONDS)


def report(
    steps: list[Step],
    whole: Step,
    serving_seconds: float,
    found: Step,
    limits: Limits,
    *,
    case: str = WHOLE,
) -> None:
    """A line per step: its share of the whole, which the generator is no part of."""
    rest = [step for step in steps if step["step"] != "generate_shop"]
    total = whole["seconds"] + serving_seconds
    session = round(whole["seconds"] - sum(step["seconds"] for step in rest), 1)
    rest.append({"step": "Spark's start and end", "seconds": session})
    rest.append({"step": "service's start", "seconds": round(serving_seconds, 1)})
    for step in rest:
        line = {"benchmark": "end_to_end", "case": step.pop("step"), **step}
        share = {"share": round(step["seconds"] / total, 3)} if case == WHOLE else {}
        print("RESULT", json.dumps(line | share | {"limits": limits}))
    line = {"benchmark": "end_to_end", "case": case, "seconds": round(total, 1)}
    line |= {"peak_memory_mb": whole["peak_memory_mb"], "limits": limits}
    print("RESULT", json.dumps(line | found))


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the two ends, in under a minute")
    quick = parser.parse_args(given).quick
    run(CHECKOUT / "var" / "benchmarks" / "end_to_end", QUICK if quick else Size(), quick=quick)


def run(root: Path, size: Size, *, quick: bool) -> None:
    """In the folder ``root``, which is emptied; ``quick`` is the two ends alone."""
    found = condition(SHOP, size.overrides)
    limits = of_products(size.users, size.items, DIM)
    if quick:
        steps, whole = beginning(root, size.run_date, size.overrides)
        make_release(PathsConfig(root=str(root / "var")))
        report(steps, whole, first_answer(root), found, limits, case=ENDS)
    else:
        steps, whole = night(root, SHOP, size.run_date, size.overrides)
        report(steps, whole, first_answer(root), found, limits)


if __name__ == "__main__":
    main()
