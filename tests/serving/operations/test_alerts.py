"""The alerts are valid, fire when they should, name metrics that exist, and each has an entry in the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys.config.serving import ServingConfig
from recsys.release.pull_state import PullState
from recsys.release.snapshot import KINDS
from recsys.serving.guard import REASONS, guarded
from recsys.serving.metrics import FALLBACKS, ROUTES, Metrics
from tests.serving.operations.tiny import tiny
from tests.serving.operations.tools import installed
from tests.setup.conftest import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "prometheus"
RUNBOOK = (CHECKOUT / "docs" / "runbook.md").read_text(encoding="utf-8")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    command = [installed("promtool"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def series() -> set[str]:
    """Names of the series that a service shows."""
    metrics = Metrics()
    guarded(tiny(metrics), ServingConfig(), metrics)
    metrics.describe_release("2024-06-01-a", {"users": 1})
    now = datetime.now(UTC)
    metrics.describe_pull(PullState(url="http://a", epoch=3, last_success=now))
    return set(re.findall(r"^(recsys_\w+)", metrics.text().decode(), re.MULTILINE))


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_passes_them(arguments: tuple[str, ...]) -> None:
    done = promtool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_would_notice_an_alert_that_never_fires(tmp_path: Path) -> None:
    mute = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    for group in mute["groups"]:
        for rule in group["rules"]:
            rule["expr"] = "vector(0) > 1"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(mute))
    shutil.copy(FOLDER / "alerts_test.yml", tmp_path)
    done = promtool("test", "rules", "alerts_test.yml", folder=tmp_path)
    missed = set(re.findall(r"alertname: ?(\w+)", done.stdout + done.stderr))
    assert missed == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_series_that_the_service_shows(rule: dict[str, Any]) -> None:
    assert set(re.findall(r"\b(recsys_\w+)", rule["expr"])) <= series()
    known: dict[str, set[str]] = {
        "reason": {*REASONS, *FALLBACKS},
        "route": {*ROUTES},
        "kind": {*KINDS},
    }
    for label, pattern in re.findall(r'(reason|route|kind)=~?"([^"]*)"', rule["expr"]):
        assert set(pattern.split("|")) <= known[label]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_has_an_entry_in_the_runbook(rule: dict[str, Any]) -> None:
    heading = f"### alert: {rule['alert']}\n"
    assert RUNBOOK.count(heading) == 1
    anchor = heading.removeprefix("### ").strip().lower().replace(":", "").replace(" ", "-")
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{anchor}"
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_every_entry_is_of_an_alert() -> None:
    named = re.findall(r"^### alert: (\w+)$", RUNBOOK, re.MULTILINE)
    assert sorted(named) == sorted(rule["alert"] for rule in rules())
