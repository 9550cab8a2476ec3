"""What a benchmark printed for machines."""

from __future__ import annotations

import json
from typing import Any

LIMITS = {"product_gflops": 130.0, "copy_gb_s": 35.0}
"""Of a job's arithmetic and memory, as every line of scoring has them."""
OF_SERVERS = ("constant_per_second", "constant_p99_ms", "bare_per_second", "bare_p99_ms")
"""What the lines of what is served have beside the copy of memory."""


def results(said: str) -> list[dict[str, Any]]:
    return [json.loads(line[7:]) for line in said.splitlines() if line.startswith("RESULT ")]


def have_limits(lines: list[dict[str, Any]], *names: str) -> bool:
    """Whether each line has these limits of the machine, and no others."""
    limits = [line["limits"] for line in lines]
    return all(each.keys() == set(names) and min(each.values()) > 0 for each in limits)
