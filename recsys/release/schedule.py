"""Whether a night trains a new model; every job that serves training asks here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from recsys.config import RecsysConfig
from recsys.release.pointer import live_release


@dataclass(frozen=True)
class Due:
    """Whether a new model is due, why, and for which days features are needed."""

    due: bool
    reason: str
    cut_offs: tuple[date, ...]
    """Choosing, measuring and release day when due; the run date alone when not."""


def training_due(config: RecsysConfig, run_date: date) -> Due:
    """Decide by ``training.when`` and the age of the model that is live.

    Raises:
        CorruptArtifact: the pointer or the live manifest is damaged.
    """
    due, reason = _decide(config, run_date)
    return Due(due, reason, config.evaluation.cut_offs(run_date).all() if due else (run_date,))


def _decide(config: RecsysConfig, run_date: date) -> tuple[bool, str]:
    when, every_days = config.training.when, config.training.every_days
    if when == "always":
        return True, "training.when is always"
    live = live_release(config.paths)
    if live is None:
        if when == "auto":
            return True, "no release is live yet"
        return False, "training.when is never, and no release is live: no model to score with"
    if when == "never":
        due, reason = False, f"training.when is never; model {live.model.version} scores on"
    elif (age := (run_date - live.model.as_of).days) <= 0:
        due, reason = True, f"the live model is as of {live.model.as_of}, not before this run date"
    else:
        due = age >= every_days
        reason = f"the live model is {age} days old (training.every_days={every_days})"
    return due, reason
