"""The search with real training: on demand, killed and gone on with, and in a night whose model the gate refuses."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from recsys.config import RecsysConfig
from recsys.records import EvaluationRecord, ModelManifest, TrainingRecord
from recsys.release.pointer import live_release
from recsys.runner.pipeline import steps_file
from tests.integration.nights import CHECKOUT, NIGHT, Shop

pytestmark = [pytest.mark.spark, pytest.mark.horovod, pytest.mark.slow, pytest.mark.timeout(1800)]

TOMORROW = NIGHT + timedelta(days=1)
SEARCH = (
    "tuning.trials=3",
    "tuning.minutes=30",
    "tuning.space={learning_rate: [0.002, 0.005, 0.02]}",
)


@pytest.fixture
def copy(shop: Shop, first_night: RecsysConfig, tmp_path: Path) -> Shop:
    return shop.copied_to(tmp_path / "var")


def tune(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, failpoint: str = ""
) -> subprocess.CompletedProcess[str]:
    monkeypatch.setenv("RECSYS_FAILPOINT", failpoint)
    command = [
        str(CHECKOUT / "spark-submit.sh"),
        "tune",
        "--env",
        "generated_shop",
        "--run-date",
        str(NIGHT),
    ]
    command += [word for override in (*shop.overrides, *SEARCH) for word in ("--set", override)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def checkpoints(config: RecsysConfig) -> set[str]:
    return {path.name for path in config.paths.checkpoints.iterdir()}


def test_a_search_is_killed_in_a_trial_and_goes_on(
    copy: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy.config()
    before, live = checkpoints(config), live_release(config.paths)

    killed = tune(copy, monkeypatch, "tune:trained")
    assert "failpoint tune:trained: killing process" in killed.stdout, "the fault landed"
    done = tune(copy, monkeypatch)

    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    last = done.stdout.rstrip().splitlines()[-1]
    assert last.startswith("RESULT {")
    found = json.loads(last.removeprefix("RESULT "))
    assert (found["trials"], found["failed"]) == (3, 0)
    assert found["stopped"] == "the budget of 3 trials is spent (tuning.trials)"
    report = (config.paths.reports / str(NIGHT) / "tuning.md").read_text()
    assert "(trial 0 was killed)" in report and "(today)" in report
    # Nothing is published, and of the trials' checkpoints the best one's alone is left.
    assert live_release(config.paths) == live
    assert before <= checkpoints(config) and len(checkpoints(config) - before) <= 1
    runs = nested_runs(config)  # also of the trial that was killed; none of settings proposed again
    assert len(runs) >= 3 and set(runs) == {("trial", "tune")}


def nested_runs(config: RecsysConfig) -> list[tuple[str, str]]:
    """(kind of run, kind of the run that it is nested in) of all nested runs."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(config.paths.mlflow_uri)
    [experiment] = [e for e in client.search_experiments() if e.name.startswith("recsys ")]
    names = {
        run.info.run_id: (run.info.run_name, run.data.tags.get("mlflow.parentRunId"))
        for run in client.search_runs([experiment.experiment_id])
    }
    return [
        (name.split()[0], names[parent][0].split()[0]) for name, parent in names.values() if parent
    ]


def test_a_refused_model_is_followed_by_one_winner(copy: Shop) -> None:
    """Refused too, it leaves a good night; nothing of it but the search's record is another's."""
    asked = ("training.when=always", "gate.min_ndcg_at_10=0.99", "tuning.when=on_fail", *SEARCH)
    config = copy.night(TOMORROW, *asked)

    record = TrainingRecord.read(config.paths, TOMORROW)
    evaluation = EvaluationRecord.read(config.paths, TOMORROW)
    assert not evaluation.passed and "min_ndcg_at_10" in evaluation.reason
    steps = [
        one["step"] for one in json.loads(steps_file(config.paths.reports, TOMORROW).read_bytes())
    ]
    assert "tune" in steps
    trained = {
        role: ModelManifest.read(config.paths.models / version).training["learning_rate"]
        for role, version in record.models.items()
    }
    roles = {trained[role] for role in ("choosing", "measuring", "release")}
    assert len(roles) == 1
    assert ("train of the winner" in steps) == (roles != {config.training.learning_rate})
    live = live_release(config.paths)
    assert live is not None and (live.run_date, live.model.as_of) == (TOMORROW, NIGHT)
