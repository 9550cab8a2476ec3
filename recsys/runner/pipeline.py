"""The steps of a night in order, each called as the scheduler would call it, in one Spark session."""

from __future__ import annotations

import importlib
import json
import time
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import structlog

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError, RecsysError
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
    taken: list[StepTaken] = []
    for number, step in enumerate(steps, start=1):
        log.info("step_started", step=step, number=f"{number}/{len(steps)}")
        lock = config.paths.locks / f"run-{step}-{run_date}.lock"
        started = time.monotonic()
        structlog.contextvars.bind_contextvars(job=step)
        try:
            with exclusive(lock, wait=False, what=f"{step} of {run_date}"), peak_memory() as peak:
                importlib.import_module(f"jobs.{step}").run(lake, config, run_date)
        except RecsysError as error:
            again = f"./spark-submit.sh run_pipeline --env {config.env} --run-date {run_date} --from {step}"
            raise type(error)(
                f"{error}\nstopped at {step}; go on from there with: {again}"
            ) from error
        finally:
            structlog.contextvars.bind_contextvars(job="run_pipeline")
        taken.append(StepTaken(step, round(time.monotonic() - started, 1), round(peak[0] / 1e6)))
        log.info(
            "step_done",
            step=step,
            seconds=taken[-1].seconds,
            peak_memory_mb=taken[-1].peak_memory_mb,
        )
        _remember(config.paths, run_date, taken[-1])
    return taken


def steps_file(reports: Path, run_date: date) -> Path:
    return reports / str(run_date) / "steps.json"


def _remember(paths: PathsConfig, run_date: date, taken: StepTaken) -> None:
    path = steps_file(paths.reports, run_date)
    earlier = json.loads(path.read_bytes()) if path.exists() else []
    kept = [step for step in earlier if step["step"] != taken.step]
    kept.append(asdict(taken))
    kept.sort(key=lambda step: STEPS.index(step["step"]))
    write_atomically(path, json.dumps(kept, indent=1).encode())
