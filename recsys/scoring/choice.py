"""Which model scores today: the new one when it passed, else the live one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from recsys.errors import Refused
from recsys.records import EvaluationRecord, Recipe


@dataclass(frozen=True)
class LiveModel:
    """What the live release was made with."""

    model_version: str
    model_as_of: date
    recipe: Recipe


@dataclass(frozen=True)
class Choice:
    model_version: str
    recipe: Recipe
    reason: str


def choose_model(
    evaluation: EvaluationRecord | None, live: LiveModel | None, run_date: date
) -> Choice:
    """The model that passed today's gate, or else the live release's; the reason is for the release.

    Raises:
        Refused: no model passed and no release is live.
    """
    if evaluation is not None and evaluation.passed and evaluation.recipe is not None:
        return Choice(evaluation.model_version, evaluation.recipe, evaluation.reason)
    why = "no evaluation of this run date" if evaluation is None else evaluation.reason
    if live is None:
        raise Refused(
            f"no model to score {run_date} with: {why}, and no release is live to fall back on. "
            "Nothing was written. Run train and evaluate; a first release needs `evaluate --bootstrap`"
        )
    age_days = (run_date - live.model_as_of).days
    return Choice(
        live.model_version,
        live.recipe,
        f"the live model of {live.model_as_of} ({age_days} days old) scores on: {why}",
    )
