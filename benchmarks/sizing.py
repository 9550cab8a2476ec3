"""What a whole first night takes of time, memory and disk at 1, 10 and 30 million generated events.

    make bench-sizing
    make bench-sizing ARGS="--millions 1"
    make bench-sizing ARGS=--quick

A user for every 100 events, 20,000 items, two epochs a fit. docs/sizing.md is made of its lines. Nothing is compared,
so no line has a "wanted". Thirty million take two cores more than an hour. With --quick the first step alone, of a shop
of 300 users: the steps after it take two cores minutes whatever the size.
"""

from __future__ import annotations

import argparse
import json

from benchmarks.end_to_end import RUN_DATE, SHOP, Size
from benchmarks.night import beginning, condition, night
from recsys.config.places import CHECKOUT

EVENTS_PER_USER = 100
ITEMS = 20_000
QUICK = Size(users=300, items=200, events=12_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10, 30], metavar="N")
    parser.add_argument("--quick", action="store_true", help="the first step, in under a minute")
    asked = parser.parse_args()
    sizes = [QUICK] if asked.quick else [size_of(millions) for millions in asked.millions]
    for size in sizes:
        overrides = [*size.overrides, "training.max_epochs=2"]
        found = condition(SHOP, overrides)
        root = CHECKOUT / "var" / "benchmarks" / "sizing"
        if asked.quick:
            steps, _ = beginning(root, RUN_DATE, overrides)
        else:
            steps, whole = night(root, SHOP, RUN_DATE, overrides)
            steps.append(whole)
        for step in steps:
            line = {"benchmark": "sizing", "case": step.pop("step"), "events": size.events}
            print("RESULT", json.dumps(line | step | found))


def size_of(millions: int) -> Size:
    events = millions * 1_000_000
    return Size(users=events // EVENTS_PER_USER, items=ITEMS, events=events)


if __name__ == "__main__":
    main()
