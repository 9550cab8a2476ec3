"""How long the generator takes for a shop, and how much memory.

make bench-generate_shop                        # 10 million events of 200,000 users, 50,000 items
make bench-generate_shop ARGS="--events 1000000"
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

import psutil

from recsys.config.sections import GenerateShopConfig
from recsys.memory import peak_memory
from recsys.shop_generator import generate_shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = GenerateShopConfig(
            directory=folder, file_format=asked.format,
            users=asked.users, items=asked.items, events=asked.events,
        )  # fmt: skip
        started = time.monotonic()
        with peak_memory() as peak:
            planted = generate_shop(config)
        seconds = time.monotonic() - started
    result = vars(asked) | {
        "rows": planted.raw_rows,
        "seconds": round(seconds, 1),
        "rows_per_second": round(planted.raw_rows / seconds),
        "peak_memory_mb": round(peak[0] / 1e6),
        "cores": psutil.cpu_count(),
    }
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
