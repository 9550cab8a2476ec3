"""Follow what rank 0 reports while the job waits for the launch to end: log lines and MLflow metrics."""

from __future__ import annotations

import contextvars
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from recsys.training.tracking import Run

log = structlog.get_logger()

POLL_SECONDS = 0.5


@contextmanager
def following(progress: Path, run: Run) -> Iterator[None]:
    """Pass on every line of ``progress`` until the body ends, then the rest."""
    with _bar() as bar:
        follower = _Follower(progress, run, bar)
        context = contextvars.copy_context()  # run id, job and run date of our log lines
        thread = threading.Thread(
            target=context.run, args=(follower.follow,), name="training-progress", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            follower.ended.set()
            thread.join()


def _bar() -> Progress:
    """A bar with the time left on a terminal; in a log file the lines of the epochs say it."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip


class _Follower:
    def __init__(self, progress: Path, run: Run, bar: Progress) -> None:
        self.ended = threading.Event()
        self._progress, self._run, self._bar = progress, run, bar
        self._read_bytes = 0
        self._loss: float | None = None
        self._steps = 0
        """Of the epoch under way."""
        self._validation_seconds = 0.0
        """What the last one took."""
        self._task = bar.add_task("training", total=None)

    def follow(self) -> None:
        while not self.ended.wait(POLL_SECONDS):
            self._pass_on()
        self._pass_on()

    def _pass_on(self) -> None:
        if not self._progress.exists():
            return
        with open(self._progress, "rb") as file:
            file.seek(self._read_bytes)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            self._one(json.loads(line))

    def _one(self, fact: dict[str, Any]) -> None:
        event, fit = fact.pop("event"), fact.pop("fit")
        match event:
            case "step":
                self._loss = fact["loss"]
                self._run.metric(f"{fit}.loss", fact["loss"], fact["step"])
                self._run.metric(f"{fit}.gradient_norm", fact["gradient_norm"], fact["step"])
                self._bar.advance(self._task)
            case "epoch_started":
                # At most so many epochs: training stops where validation gets no better.
                total, done = fact["epochs"] * fact["steps"], (fact["epoch"] - 1) * fact["steps"]
                about = f"{fit}, epoch {fact['epoch']} of at most {fact['epochs']}"
                self._steps = fact["steps"]
                self._run.metric(f"{fit}.read_seconds", fact["read_seconds"], fact["epoch"])
                self._bar.update(
                    self._task, total=total, completed=done + fact["done"], description=about
                )
            case "epoch_trained":
                self._epoch(fit, fact)
            case "validated":
                self._validation_seconds = fact["seconds"]
                self._run.metric(f"{fit}.{fact['metric']}", fact["value"], fact["epoch"])
                value = {fact["metric"]: round(fact["value"], 4)}
                log.info("validated", fit=fit, epoch=fact["epoch"], **value)
            case "checkpoint_written":
                self._run.tag(**{f"checkpoint.{fit}": fact["checkpoint"]})
            case _:
                log.info(event, fit=fit, **fact)

    def _epoch(self, fit: str, fact: dict[str, Any]) -> None:
        """What the epoch cost, to MLflow whole and to the log in one line."""
        epoch, peaks = fact["epoch"], fact["peak_memory_bytes"]
        figures = {
            "examples_per_second": fact["examples_per_second"],
            "exchanged_bytes_per_step": fact["exchanged_bytes_per_step"],
            **{f"ms_per_step.{phase}": ms for phase, ms in fact["ms_per_step"].items()},
            **{f"peak_memory_bytes.rank_{rank}": peak for rank, peak in enumerate(peaks)},
            **{
                f"peak_device_memory_bytes.rank_{rank}": peak
                for rank, peak in enumerate(fact.get("peak_device_memory_bytes", []))
            },
        }
        for name, value in figures.items():
            self._run.metric(f"{fit}.{name}", value, epoch)
        self._run.flush()
        log.info(
            "epoch_trained", fit=fit, epoch=epoch, of=fact["epochs"], loss=round(self._loss or 0.0, 4),
            examples_per_second=round(fact["examples_per_second"]),
            exchanged_kib_per_step=round(fact["exchanged_bytes_per_step"] / 1024),
            ms_per_step={phase: round(ms, 2) for phase, ms in fact["ms_per_step"].items()},
            peak_memory_gib=[round(peak / 2**30, 2) for peak in peaks],
            seconds_left_of_fit=round(self._seconds_left(fact)),
        )  # fmt: skip

    def _seconds_left(self, fact: dict[str, Any]) -> float:
        """To the last epoch that the fit may have, at the pace of this one; its own validation is still to come."""
        left = fact["epochs"] - fact["epoch"]
        step_seconds = fact["seconds"] / max(1, fact["steps"])
        return float(left * self._steps * step_seconds + (left + 1) * self._validation_seconds)
