"""Schemathesis reads the OpenAPI document and sends what it allows, and what it does not: never a 5xx."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.operations.servers import Server, shop_server

# The upper end of `n` is the release's, so the document cannot say it; and a null in the place of a field that
# may be left out is taken for one that was.
NOT_CHECKED = "positive_data_acceptance,negative_data_rejection"


def schemathesis(server: Server, folder: Path, examples: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--no-color"),
            *("run", f"{server.address}/openapi.json", f"--exclude-checks={NOT_CHECKED}"),
            *(f"--max-examples={examples}", "--seed=17", "--generation-deterministic"),
            *("--phases=coverage,fuzzing",),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def by_status(server: Server) -> dict[str, int]:
    """Answers so far, as the service itself counts them; the first digit of the status decides."""
    text = server.get("/metrics").text
    counts: dict[str, int] = {}
    for status, count in re.findall(
        r'^recsys_requests_total\{.*status="(\d)\d\d"\} (\S+)$', text, re.M
    ):
        counts[status] = counts.get(status, 0) + int(float(count))
    return counts


@pytest.mark.parametrize("examples", [10, pytest.param(400, marks=pytest.mark.slow)])
def test_nothing_that_the_document_allows_or_forbids_is_a_fault_of_ours(
    examples: int, tmp_path: Path
) -> None:
    with shop_server() as server:
        done = schemathesis(server, tmp_path, examples)
        counts = by_status(server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts.get("5", 0) == 0
    assert min(counts["2"], counts["4"]) > examples, "it did send something"
