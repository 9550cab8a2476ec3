"""Time and peak memory of each step of a night; of a generated shop, the generator's, too.

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

import psutil

from recsys.config.places import CHECKOUT
from recsys.runner.pipeline import peak_memory

SUBMIT = str(CHECKOUT / "spark-submit.sh")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shop", default="local", help="an environment of conf (default local)")
    parser.add_argument("--run-date", default="2010-12-10")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    asked = parser.parse_args()
    found = condition(asked)
    root = CHECKOUT / "var" / "benchmarks" / f"night-{asked.shop}"
    shutil.rmtree(root, ignore_errors=True)
    overrides = [*asked.overrides, f"paths.root={root / 'var'}"]
    if asked.shop == "generated_shop":
        overrides.append(f"generate_shop.directory={root / 'shop'}")
    common = ["--env", asked.shop, *(word for one in overrides for word in ("--set", one))]

    steps = []
    if asked.shop == "generated_shop":
        steps.append(measured("generate_shop", [SUBMIT, "generate_shop", *common]))
    night = ["run_pipeline", "--run-date", asked.run_date, "--bootstrap"]
    whole = measured("whole night, Spark's start included", [SUBMIT, *night, *common])
    steps += json.loads((root / "var" / "reports" / asked.run_date / "steps.json").read_text())
    for step in [*steps, whole]:
        print("RESULT", json.dumps(found | step))


def measured(name: str, command: list[str]) -> dict[str, object]:
    """Run ``command``; its seconds, and the peak of resident memory of its processes together."""
    started = time.monotonic()
    with peak_memory() as peak:
        subprocess.run(command, check=True)
    seconds = round(time.monotonic() - started, 1)
    return {"step": name, "seconds": seconds, "peak_memory_mb": round(peak[0] / 1e6)}


def condition(asked: argparse.Namespace) -> dict[str, object]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    ).stdout.strip()  # fmt: skip
    return {
        "shop": asked.shop,
        "set": " ".join(asked.overrides),
        "cores": psutil.cpu_count(),
        "python": platform.python_version(),
        "commit": commit,
        "load_before": round(psutil.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    main()
