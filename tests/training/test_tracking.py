"""What the MLflow run holds, read back through MLflow."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import cast
from urllib.parse import urlparse

import pytest
from mlflow.tracking import MlflowClient
from structlog.testing import capture_logs

from recsys.config import RecsysConfig
from recsys.training.following import following
from recsys.training.tracking import Run, flattened, tracked_run

RUN_DATE = date(2024, 6, 1)


def test_nested_settings_become_dotted_parameters() -> None:
    nested = {"a": {"b": 1, "c": {"d": [2]}}, "e": {}}
    assert dict(flattened(nested)) == {"a.b": 1, "a.c.d": [2], "e": {}}


def test_the_run_holds_config_versions_metrics_and_models(
    config: RecsysConfig, tmp_path: Path
) -> None:
    progress = tmp_path / "progress.jsonl"
    facts = [
        {"event": "fit_started", "fit": "choosing", "epochs": 2},
        {
            "event": "epoch_started", "fit": "choosing", "epoch": 1, "epochs": 3, "steps": 4, "done": 2,
            "examples": 100, "read_seconds": 1.5,
        },
        {"event": "step", "fit": "choosing", "step": 1, "epoch": 1, "loss": 3.0, "gradient_norm": 0.5},
        {"event": "step", "fit": "choosing", "step": 2, "epoch": 1, "loss": 2.0, "gradient_norm": 0.4},
        {
            "event": "epoch_trained", "fit": "choosing", "epoch": 1, "epochs": 3, "step": 2, "steps": 2,
            "seconds": 4.0, "examples_per_second": 50.0, "exchanged_bytes_per_step": 2048.0,
            "ms_per_step": {"load": 0.5, "dense": 3.0}, "peak_memory_bytes": [1 << 30, 2 << 30],
            "peak_device_memory_bytes": [3 << 30, 0],
        },
        {
            "event": "validated", "fit": "choosing", "epoch": 1, "metric": "ndcg_at_10", "value": 0.25, "step": 2,
            "seconds": 3.0,
        },
        {"event": "checkpoint_written", "fit": "choosing", "epoch": 1, "checkpoint": "/c/epoch-001-0"},
    ]  # fmt: skip
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").write_text("{}")
    with tracked_run(config, RUN_DATE, {"training_examples": 7}) as run:
        with following(progress, run):
            progress.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
        run.folder(tmp_path / "model", "model")

    client = MlflowClient(tracking_uri=config.paths.mlflow_uri)
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["run_date"] == "2024-06-01"
    assert found.data.tags["checkpoint.choosing"] == "/c/epoch-001-0"
    assert found.data.params["table_version.training_examples"] == "7"
    assert found.data.params["training.seed"] == str(config.training.seed)
    losses = client.get_metric_history(run.run_id, "choosing.loss")
    assert [(metric.step, metric.value) for metric in losses] == [(1, 3.0), (2, 2.0)]
    assert found.data.metrics["choosing.ndcg_at_10"] == 0.25
    assert found.data.metrics["choosing.ms_per_step.dense"] == 3.0
    assert found.data.metrics["choosing.exchanged_bytes_per_step"] == 2048
    assert found.data.metrics["choosing.peak_memory_bytes.rank_1"] == 2 << 30
    assert found.data.metrics["choosing.peak_device_memory_bytes.rank_0"] == 3 << 30
    assert found.data.metrics["choosing.read_seconds"] == 1.5
    assert {a.path for a in client.list_artifacts(run.run_id)} == {"config.json", "model"}
    artifact = Path(client.download_artifacts(run.run_id, "config.json"))
    assert RecsysConfig.model_validate_json(artifact.read_text()) == config

    with pytest.raises(ValueError, match="boom"), tracked_run(config, RUN_DATE, {}) as failing:
        raise ValueError("boom")
    assert client.get_run(failing.run_id).info.status == "FAILED"


def test_a_folder_that_cannot_be_copied_costs_the_copy_and_not_the_night(
    config: RecsysConfig, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").write_text("{}")
    with capture_logs() as logs, tracked_run(config, RUN_DATE, {}) as run:
        client = MlflowClient(tracking_uri=config.paths.mlflow_uri)
        artifacts = Path(urlparse(client.get_run(run.run_id).info.artifact_uri).path)
        (artifacts / "model").touch()  # as a full disk would, it lets nothing be written there
        run.folder(tmp_path / "model", "model")
    [line] = [line for line in logs if line["event"] == "not_tracked"]
    assert line["what"] == "files"
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_the_time_left_is_that_of_the_steps_and_validations_to_come(tmp_path: Path) -> None:
    class NoRun:
        def metric(self, name: str, value: float, step: int) -> None: ...

        def flush(self) -> None: ...

    def epoch(number: int, *, steps: int, seconds: float) -> list[dict[str, object]]:
        about = {"fit": "f", "epoch": number, "epochs": 4}
        return [
            {**about, "event": "epoch_started", "steps": 10, "done": 10 - steps, "read_seconds": 0.0},
            {
                **about, "event": "epoch_trained", "steps": steps, "seconds": seconds,
                "examples_per_second": 1.0, "exchanged_bytes_per_step": 0.0, "ms_per_step": {},
                "peak_memory_bytes": [1],
            },
            {**about, "event": "validated", "metric": "m", "value": 0.5, "seconds": 7.0},
        ]  # fmt: skip

    progress = tmp_path / "progress.jsonl"
    # The first is the end of an epoch that another attempt began: two steps of 3 s.
    facts = [*epoch(1, steps=2, seconds=6.0), *epoch(2, steps=10, seconds=20.0)]
    progress.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    with capture_logs() as logs, following(progress, cast(Run, NoRun())):
        pass
    left = [line["seconds_left_of_fit"] for line in logs if line["event"] == "epoch_trained"]
    # 3 epochs of 10 steps of 3 s; 2 of 10 steps of 2 s, and 3 validations.
    assert left == [90, 61]
