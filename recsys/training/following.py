"""Follow what rank 0 reports while the job waits for the launch to end: log lines and MLflow metrics."""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from recsys.training.tracking import Run

log = structlog.get_logger()

POLL_SECONDS = 0.5


@contextmanager
def following(progress: Path, run: Run) -> Iterator[None]:
    """Pass on every line of ``progress`` until the body ends, then the rest."""
    follower = _Follower(progress, run)
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


class _Follower:
    def __init__(self, progress: Path, run: Run) -> None:
        self.ended = threading.Event()
        self._progress, self._run = progress, run
        self._read_bytes = 0
        self._loss: float | None = None
        self._left: dict[str, float] = {}

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
            case "epoch_trained":
                self._run.metric(
                    f"{fit}.examples_per_second", fact["examples_per_second"], fact["epoch"]
                )
                self._run.flush()
                left = (fact["epochs"] - fact["epoch"]) * fact["seconds"]
                log.info(
                    "epoch_trained", fit=fit, epoch=fact["epoch"], of=fact["epochs"],
                    loss=round(self._loss or 0.0, 4),
                    examples_per_second=round(fact["examples_per_second"]),
                    at_most_seconds_left=round(left),
                )  # fmt: skip
            case "validated":
                self._run.metric(f"{fit}.ndcg_at_10", fact["ndcg_at_10"], fact["epoch"])
                log.info(
                    "validated",
                    fit=fit,
                    epoch=fact["epoch"],
                    ndcg_at_10=round(fact["ndcg_at_10"], 4),
                )
            case "checkpoint_written":
                self._run.tag(**{f"checkpoint.{fit}": fact["checkpoint"]})
            case _:
                log.info(event, fit=fit, **fact)
