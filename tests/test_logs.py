"""Lines for people, lines for machines."""

from __future__ import annotations

import json

import pytest
import structlog

from recsys.logs import FOR_PEOPLE, configure_logs


def said(capsys: pytest.CaptureFixture[str]) -> str:
    run_id = configure_logs(job="ingest", run_date="2024-06-01")
    structlog.get_logger().info("step_started", step="ingest", number="1/9")
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    return capsys.readouterr().err.replace(run_id, "RUN")


def test_a_log_collector_gets_json_with_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said(capsys))
    told.pop("timestamp")
    assert told == {
        "event": "step_started", "step": "ingest", "number": "1/9", "level": "info",
        "job": "ingest", "run_date": "2024-06-01", "run_id": "RUN",
    }  # fmt: skip


def test_people_get_short_lines_through_spark_s_pipe_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOR_PEOPLE, "1")
    line = said(capsys)
    assert "step_started" in line and "1/9" in line
    assert "RUN" not in line and "2024-06-01" not in line and "{" not in line
