"""The steps of a night in order, each called as the scheduler would call it, in one Spark session."""

from __future__ import annotations

import importlib
import json
import time
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import structlog

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.tuning import with_settings
from recsys.errors import ConfigError, GateRefused, RecsysError
from recsys.lake import Lake
from recsys.locks import exclusive
from recsys.memory import peak_memory
from recsys.records import write_atomically
from recsys.runner.options import parse_day

log = structlog.get_logger()

STEPS = (
    "ingest",
    "build_features",
    "build_candidates",
    "build_training_set",
    "train",
    "evaluate",
    "export_onnx",
    "score_top_n",
    "publish",
)
GATE, SEARCH, OF_WINNER = "evaluate", "tune", " of the winner"
_AFTER = STEPS.index(GATE) + 1
IN_ORDER = (
    *STEPS[:_AFTER], SEARCH, f"train{OF_WINNER}", f"{GATE}{OF_WINNER}", *STEPS[_AFTER:],
)  # fmt: skip
"""With what a night takes on top where the gate refuses and ``tuning.when`` says so."""


@dataclass(frozen=True)
class StepTaken:
    """What one step cost."""

    step: str
    seconds: float
    peak_memory_mb: float
    """Resident memory of the driver, its JVM and all its processes together, at its highest."""


def steps_from(first: str) -> tuple[str, ...]:
    """The steps from ``first`` on.

    Raises:
        ConfigError: no such step.
    """
    if first not in STEPS:
        raise ConfigError(f"--from takes a step, got {first!r}: {', '.join(STEPS)}")
    return STEPS[STEPS.index(first) :]


def days_of(run_date: str | None, run_dates: str | None) -> list[date]:
    """The run dates asked for: one, or every day of ``A..B``, both included, oldest first.

    Raises:
        ConfigError: none or both were given, or a day is not one.
    """
    if bool(run_date) == bool(run_dates):
        raise ConfigError("give either --run-date 2010-12-10 or --run-dates 2010-12-01..2010-12-10")
    if run_date:
        return [parse_day(run_date)]
    first, dots, last = str(run_dates).partition("..")
    if not dots:
        raise ConfigError(f"--run-dates takes FIRST..LAST, got {run_dates!r}")
    start, end = parse_day(first), parse_day(last)
    if end < start:
        raise ConfigError(f"--run-dates: {end} is before {start}")
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


def run_steps(
    lake: Lake, config: RecsysConfig, run_date: date, steps: tuple[str, ...]
) -> list[StepTaken]:
    """Run ``steps`` for one day; what each cost is written to ``paths.reports``.

    Raises:
        RecsysError: a step failed or refused; a note says how to go on from it.
    """
    night = Night(lake, config, run_date)
    for number, step in enumerate(steps, start=1):
        log.info("step_started", step=step, number=f"{number}/{len(steps)}")
        if step == GATE:
            night.evaluate()
        else:
            night.take(step)
    return night.taken


class Night:
    """One day's steps as they are taken."""

    def __init__(self, lake: Lake, config: RecsysConfig, run_date: date) -> None:
        self._lake, self._config, self._run_date = lake, config, run_date
        self.taken: list[StepTaken] = []

    def evaluate(self) -> None:
        """Let the gate decide. Where it refuses a new model, search, and show it one winner (``tuning.when``).

        Raises:
            GateRefused: nothing is live to go on with, and no winner passed either.
        """
        searches = self._config.tuning.when == "on_fail"
        try:
            found = self.take(GATE)
        except GateRefused as refused:
            if not searches:
                raise
            winners = self._trained_winner()
            if winners is None:
                raise GateRefused(
                    f"{refused}\nThe search brought no winner: {self._report()}"
                ) from None
        else:
            refused_beside_a_live_one = found.verdicts and not found.record.passed
            if not (refused_beside_a_live_one and searches):
                return
            winners = self._trained_winner()
            if winners is None:
                return
        if self.take(GATE, called=f"{GATE}{OF_WINNER}", config=winners).record.passed:
            self._config = winners

    def _trained_winner(self) -> RecsysConfig | None:
        """Search better settings and train with them: conf with these. None where there are none, or it went wrong.

        A search that fails, in whatever way, costs what it might have found, never the night.
        """
        try:
            study = self.take(SEARCH, again_from=GATE)
            winner = study.winner()
            if winner is None:
                log.info("no_winner", stopped=study.searched().stopped, report=self._report())
                return None
            log.info("winner", trial=winner.number, ndcg_at_10=winner.ndcg, report=self._report())
            training = with_settings(self._config.training, winner.settings)
            winners = self._config.model_copy(update={"training": training})
            self.take("train", called=f"train{OF_WINNER}", again_from=GATE, config=winners)
        except Exception as error:  # a defect, too; where the search ended is in its trace
            defect = not isinstance(error, RecsysError)
            log.warning("search_failed", reason=str(error), exc_info=defect)
            return None
        return winners

    def _report(self) -> str:
        return str(self._config.paths.reports / str(self._run_date) / "tuning.md")

    def take(
        self, step: str, *, called: str = "", again_from: str = "", config: RecsysConfig | None = None
    ) -> Any:  # fmt: skip
        """Run the job ``step``; returns what its ``run`` does.

        ``called``: by what name its cost is kept. ``again_from``: the step to go on from where it fails. ``config``:
        another than the night's.
        """
        config, run_date = config or self._config, self._run_date
        lock = config.paths.locks / f"run-{step}-{run_date}.lock"
        started = time.monotonic()
        structlog.contextvars.bind_contextvars(job=step)
        try:
            with exclusive(lock, wait=False, what=f"{step} of {run_date}"), peak_memory() as peak:
                found = importlib.import_module(f"jobs.{step}").run(self._lake, config, run_date)
        except RecsysError as error:
            again = (
                f"./spark-submit.sh run_pipeline --env {config.env} --run-date {run_date} "
                f"--from {again_from or step}"
            )
            raise type(error)(
                f"{error}\nstopped at {step}; go on from there with: {again}"
            ) from error
        finally:
            structlog.contextvars.bind_contextvars(job="run_pipeline")
        seconds, megabytes = round(time.monotonic() - started, 1), round(peak[0] / 1e6)
        self.taken.append(StepTaken(called or step, seconds, megabytes))
        log.info("step_done", step=called or step, seconds=seconds, peak_memory_mb=megabytes)
        _remember(config.paths, run_date, self.taken[-1])
        return found


def steps_file(reports: Path, run_date: date) -> Path:
    return reports / str(run_date) / "steps.json"


def _remember(paths: PathsConfig, run_date: date, taken: StepTaken) -> None:
    path = steps_file(paths.reports, run_date)
    earlier = json.loads(path.read_bytes()) if path.exists() else []
    kept = [step for step in earlier if step["step"] != taken.step]
    kept.append(asdict(taken))
    kept.sort(key=lambda step: IN_ORDER.index(step["step"]))
    write_atomically(path, json.dumps(kept, indent=1).encode())
