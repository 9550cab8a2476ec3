"""Which days and steps run_pipeline takes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog

from recsys.config import RecsysConfig
from recsys.config.tuning import Settings, TuningConfig
from recsys.errors import ConfigError, GateRefused, Refused
from recsys.evaluation.gate import Verdict
from recsys.evaluation.nightly import Evaluation
from recsys.evaluation.tuning import Outcome, Study
from recsys.records import EvaluationRecord
from recsys.runner.pipeline import STEPS, days_of, run_steps, steps_file, steps_from


def test_a_backfill_takes_both_ends_oldest_first_over_a_leap_day() -> None:
    assert days_of(None, "2024-02-28..2024-03-01") == [
        date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("run_date", "run_dates", "message"),
    [
        (None, None, "either --run-date"),
        ("2024-01-01", "2024-01-01..2024-01-02", "either --run-date"),
        (None, "2024-01-01", r"takes FIRST\.\.LAST"),
        (None, "2024-01-02..2024-01-01", "is before"),
        ("2024-02-30", None, "takes a day such as"),
        ("2024-1-1", None, "takes a day such as"),
    ],
)
def test_days_in_the_wrong_form_are_refused(
    run_date: str | None, run_dates: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        days_of(run_date, run_dates)


def test_from_takes_the_step_and_all_after_it() -> None:
    assert steps_from("score_top_n") == ("score_top_n", "publish")
    assert steps_from("ingest") == STEPS
    with pytest.raises(ConfigError, match="--from takes a step, got 'scoring'"):
        steps_from("scoring")


def test_a_step_that_fails_says_how_to_go_on_in_this_environment(
    config: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> NoReturn:
        raise Refused("the day is short")

    monkeypatch.setattr("jobs.ingest.run", run)
    of_a_shop = config.model_copy(update={"env": "complete_journey"})
    lake: Any = None
    with pytest.raises(Refused) as error:
        run_steps(lake, of_a_shop, date(2018, 1, 1), ("ingest",))
    wanted = (
        "./spark-submit.sh run_pipeline --env complete_journey --run-date 2018-01-01 --from ingest"
    )
    assert str(error.value).endswith(wanted)


DAY = date(2024, 6, 29)
LAKE: Any = None
TODAY: Settings = {"dropout": 0.2}


@dataclass
class Jobs:
    """Steps that say when they were called and with which dropout; the gate wants at least ``wanted``."""

    folder: Path
    wanted: float = 0.25
    live: bool = True
    dropouts: tuple[float, ...] = (0.3, 0.4)
    """Of the space that is searched; the best of them is the smallest."""
    search_fails: Exception | None = None
    called: list[str] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for step in ("train", "export_onnx"):
            monkeypatch.setattr(f"jobs.{step}.run", self._noting(step))
        monkeypatch.setattr("jobs.evaluate.run", self.evaluate)
        monkeypatch.setattr("jobs.tune.run", self.tune)

    def _noting(self, step: str) -> Any:
        return lambda lake, config, day: self._note(step, config)

    def _note(self, step: str, config: RecsysConfig) -> None:
        self.called.append(f"{step} {config.training.dropout:g}")

    def evaluate(self, lake: Any, config: RecsysConfig, day: date) -> Evaluation:
        self._note("evaluate", config)
        passed = config.training.dropout >= self.wanted
        record = EvaluationRecord(run_date=day, passed=passed, reason="by dropout")
        if not passed and not self.live:
            raise GateRefused("the gate refused: by dropout")
        return Evaluation(record, verdicts=(Verdict("dropout", 0.0, "more", passed, ""),))

    def tune(self, lake: Any, config: RecsysConfig, day: date) -> Study:
        self._note("tune", config)
        if self.search_fails:
            raise self.search_fails
        space = TuningConfig.model_validate({"trials": 3, "space": {"dropout": self.dropouts}})
        study = Study(self.folder / "study.db", "a", space, [TODAY])
        study.run(lambda tried: Outcome(float(tried["dropout"] == 0.3), {}))
        return study


def night(jobs: Jobs, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch, **tuning: Any) -> None:
    jobs.install(monkeypatch)
    asked = config.model_copy(update={"tuning": TuningConfig(**tuning)})
    run_steps(LAKE, asked, DAY, ("train", "evaluate", "export_onnx"))


@pytest.mark.parametrize("live", [True, False])
def test_after_a_refusal_one_winner_is_trained_and_shown(
    live: bool, config: RecsysConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(tmp_path, live=live)
    night(jobs, config, monkeypatch)

    assert jobs.called == [
        "train 0.2", "evaluate 0.2", "tune 0.2", "train 0.3", "evaluate 0.3", "export_onnx 0.3",
    ]  # fmt: skip
    steps = json.loads(steps_file(config.paths.reports, DAY).read_bytes())
    taken = [
        "train",
        "evaluate",
        "tune",
        "train of the winner",
        "evaluate of the winner",
        "export_onnx",
    ]
    assert [one["step"] for one in steps if live or one["step"] != "evaluate"] == [
        name for name in taken if live or name != "evaluate"
    ]


def test_a_winner_that_is_refused_is_not_followed_by_another(
    config: RecsysConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a live release the night goes on, as conf says again; without one it ends, and says so."""
    beside_a_live_one = Jobs(tmp_path, wanted=0.9)
    night(beside_a_live_one, config, monkeypatch)
    assert beside_a_live_one.called[-3:] == ["train 0.3", "evaluate 0.3", "export_onnx 0.2"]

    first = Jobs(tmp_path, wanted=0.9, live=False)
    with pytest.raises(GateRefused, match="by dropout"):
        night(first, config, monkeypatch)
    assert first.called[-2:] == ["train 0.3", "evaluate 0.3"]


@pytest.mark.parametrize(
    "change",
    [
        {"dropouts": (0.2, 0.4)},
        {"search_fails": Refused("MLflow takes no run")},
        {"search_fails": ZeroDivisionError("a defect of ours")},
    ],
)
def test_without_a_winner_the_refusal_stands(
    change: dict[str, Any], config: RecsysConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(tmp_path, **change)
    night(jobs, config, monkeypatch)
    assert jobs.called[-2:] == ["tune 0.2", "export_onnx 0.2"]

    first = Jobs(tmp_path, live=False, **change)
    with pytest.raises(GateRefused, match=r"by dropout[\s\S]*no winner: .*tuning\.md"):
        night(first, config, monkeypatch)
    assert first.called[-1] == "tune 0.2"


@pytest.mark.parametrize("error", [Refused("not finite"), RuntimeError("a defect of ours")])
def test_a_winner_that_cannot_be_trained_leaves_the_night_as_it_was(
    error: Exception, config: RecsysConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(tmp_path)
    jobs.install(monkeypatch)

    def train(lake: Any, given: RecsysConfig, day: date) -> None:
        jobs.called.append(f"train {given.training.dropout:g}")
        raise error

    monkeypatch.setattr("jobs.train.run", train)
    with structlog.testing.capture_logs() as logs:
        run_steps(LAKE, config, DAY, ("evaluate", "export_onnx"))

    assert jobs.called == ["evaluate 0.2", "tune 0.2", "train 0.3", "export_onnx 0.2"]
    [failed] = [one for one in logs if one["event"] == "search_failed"]
    assert str(error) in failed["reason"]
    assert failed["exc_info"] is isinstance(error, RuntimeError), "a defect is told with its trace"


def test_where_conf_says_never_nothing_is_searched(
    config: RecsysConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(tmp_path)
    night(jobs, config, monkeypatch, when="never")
    assert jobs.called == ["train 0.2", "evaluate 0.2", "export_onnx 0.2"]

    first = Jobs(tmp_path, live=False)
    with pytest.raises(GateRefused):
        night(first, config, monkeypatch, when="never")
    assert "tune 0.2" not in first.called


def test_a_model_that_passes_is_not_searched_for(
    config: RecsysConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(tmp_path, wanted=0.1)
    night(jobs, config, monkeypatch)
    assert jobs.called == ["train 0.2", "evaluate 0.2", "export_onnx 0.2"]
