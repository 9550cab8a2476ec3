"""What the MLflow run holds, read back through MLflow."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from recsys.config import RecsysConfig
from recsys.training.following import following
from recsys.training.tracking import flattened, tracked_run

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
        {"event": "step", "fit": "choosing", "step": 1, "epoch": 1, "loss": 3.0, "gradient_norm": 0.5},
        {"event": "step", "fit": "choosing", "step": 2, "epoch": 1, "loss": 2.0, "gradient_norm": 0.4},
        {
            "event": "epoch_trained", "fit": "choosing", "epoch": 1, "epochs": 2, "step": 2,
            "seconds": 4.0, "examples_per_second": 50.0, "exchanged_bytes_per_step": 2048.0,
            "ms_per_step": {"load": 0.5, "dense": 3.0}, "peak_memory_bytes": [1 << 30, 2 << 30],
        },
        {"event": "validated", "fit": "choosing", "epoch": 1, "metric": "ndcg_at_10", "value": 0.25, "step": 2},
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
    assert {a.path for a in client.list_artifacts(run.run_id)} == {"config.json", "model"}
    artifact = Path(client.download_artifacts(run.run_id, "config.json"))
    assert RecsysConfig.model_validate_json(artifact.read_text()) == config

    with pytest.raises(ValueError, match="boom"), tracked_run(config, RUN_DATE, {}) as failing:
        raise ValueError("boom")
    assert client.get_run(failing.run_id).info.status == "FAILED"
