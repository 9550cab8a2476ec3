"""After set-up nothing needs a network: a whole night in a network namespace with loopback alone."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.integration.nights import NIGHT, generate

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.spark
@pytest.mark.horovod
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_night_needs_no_network(tmp_path: Path) -> None:
    set_ = [word for override in generate(tmp_path) for word in ("--set", override)]
    submit = str(CHECKOUT / "spark-submit.sh")
    generate_ = [submit, "generate_shop", "--env", "generated_shop", *set_]
    night = [
        submit,
        "run_pipeline",
        "--env",
        "generated_shop",
        "--run-date",
        str(NIGHT),
        "--bootstrap",
        *set_,
    ]
    # The default route is gone and stays gone: a download would fail, not wait.
    script = " && ".join(
        [
            "ip link set lo up",
            "! ip route get 192.0.2.1 2>/dev/null",
            shlex.join(generate_),
            shlex.join(night),
        ]
    )
    answer = subprocess.run(
        ["unshare", "-rn", "bash", "-c", script],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=850,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    root = tmp_path / "var"
    assert (root / "releases" / "current").exists()
    assert '"step": "publish"' in answer.stderr or "step_done" in answer.stderr
