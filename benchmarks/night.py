"""Time, peak memory and disk of each step of a night; of a generated shop, the generator's, too.

    make bench-night
    make bench-night ARGS="--shop complete_journey --run-date 2018-01-01"
    make bench-night ARGS="--shop generated_shop --run-date 2024-04-30 --set generate_shop.users=100000"

Runs in a folder of its own under var/benchmarks, so that no table or release of yours is touched.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from recsys.config import load_config
from recsys.config.places import CHECKOUT
from recsys.lake import Lake, spark_session
from recsys.memory import peak_memory
from recsys.runner.pipeline import STEPS, run_steps, steps_file
from recsys.shop_generator import generate_shop
from recsys.watching import watching

SUBMIT = str(CHECKOUT / "spark-submit.sh")
STEPS_SAMPLE_SECONDS = 0.5
Step = dict[str, Any]
"""A line of the result."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shop", default="local", help="an environment of conf (default local)")
    parser.add_argument("--run-date", default="2010-12-10")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    asked = parser.parse_args()
    found = condition(asked.shop, asked.overrides)
    root = CHECKOUT / "var" / "benchmarks" / f"night-{asked.shop}"
    steps, whole = night(root, asked.shop, asked.run_date, asked.overrides)
    for step in [*steps, whole]:
        print("RESULT", json.dumps(found | step))


def night(
    root: Path, shop: str, run_date: str, overrides: Sequence[str]
) -> tuple[list[Step], Step]:
    """A first night in the folder ``root``, emptied: its steps, that of the generator first, and the whole of it."""
    shutil.rmtree(root, ignore_errors=True)
    common = options(root, shop, overrides)
    steps: list[Step] = []
    if shop == "generated_shop":
        steps.append(measured("generate_shop", [SUBMIT, "generate_shop", *common]))
    job = ["run_pipeline", "--run-date", run_date, "--bootstrap"]
    report = steps_file(root / "var" / "reports", date.fromisoformat(run_date))
    with disk_by_step(root / "var", report) as disk:
        whole = measured("whole night, Spark's start included", [SUBMIT, *job, *common])
    for step in json.loads(report.read_text()):
        steps.append(step | {"disk_mb": disk.get(step["step"])})
    return steps, whole | {"disk_mb": sum(disk.values())}


def beginning(root: Path, run_date: str, overrides: Sequence[str]) -> tuple[list[Step], Step]:
    """The generator and the first step alone, in a session of this process: what a --quick has time for.

    A whole night takes two cores minutes however small the shop is: Spark compiles what it runs, in every step.
    """
    shutil.rmtree(root, ignore_errors=True)
    config = load_config("generated_shop", settings(root, "generated_shop", overrides))
    generate_shop(config.generate_shop)
    started = time.monotonic()
    with peak_memory() as peak, spark_session("beginning", config.spark) as spark:
        day = date.fromisoformat(run_date)
        [ingest] = run_steps(Lake(spark, config.paths), config, day, STEPS[:1])
    seconds = round(time.monotonic() - started, 1)
    whole = {"seconds": seconds, "peak_memory_mb": round(peak[0] / 1e6)}
    return [asdict(ingest)], whole


@contextmanager
def disk_by_step(root: Path, report: Path) -> Iterator[dict[str, int]]:
    """Yields the megabytes by which ``root`` grew in each step, as ``report`` comes to name them."""
    grown: dict[str, int] = {}
    before = 0

    def look() -> None:
        nonlocal before
        with suppress(OSError):
            names = [step["step"] for step in json.loads(report.read_bytes())]
            for name in names:
                if name not in grown:
                    size = bytes_under(root)
                    grown[name], before = round((size - before) / 1e6), size

    with watching(look, every_seconds=STEPS_SAMPLE_SECONDS, name="disk-by-step"):
        yield grown
    look()


def bytes_under(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # removed meanwhile
            total += path.lstat().st_size
    return total


def options(root: Path, shop: str, overrides: Sequence[str]) -> list[str]:
    """The environment, and where it lies, for a job or the service."""
    set_ = (word for one in settings(root, shop, overrides) for word in ("--set", one))
    return ["--env", shop, *set_]


def settings(root: Path, shop: str, overrides: Sequence[str]) -> list[str]:
    """``overrides``, and where everything lies."""
    places = [f"paths.root={root / 'var'}"]
    if shop == "generated_shop":
        places.append(f"generate_shop.directory={root / 'shop'}")
    return [*overrides, *places]


def measured(name: str, command: list[str]) -> Step:
    """Run ``command``; its seconds, and the peak of resident memory of its processes together."""
    started = time.monotonic()
    with peak_memory() as peak:
        subprocess.run(command, check=True)
    seconds = round(time.monotonic() - started, 1)
    return {"step": name, "seconds": seconds, "peak_memory_mb": round(peak[0] / 1e6)}


def condition(shop: str, overrides: Sequence[str]) -> Step:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    ).stdout.strip()  # fmt: skip
    return {
        "shop": shop,
        "set": " ".join(overrides),
        "cores": psutil.cpu_count(),
        "python": platform.python_version(),
        "commit": commit,
        "load_before": round(psutil.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    main()
