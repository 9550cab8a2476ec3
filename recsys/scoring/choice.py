"""Which model scores today: the new one when it passed, else the live one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from recsys.errors import Refused
from recsys.records import PARITY_FILE, EvaluationRecord, ModelManifest, RankingManifest, Recipe


@dataclass(frozen=True)
class LiveModel:
    """What the live release was made with."""

    model_version: str
    model_as_of: date
    recipe: Recipe
    ranking_version: str = ""


@dataclass(frozen=True)
class Choice:
    model_version: str
    recipe: Recipe
    reason: str
    is_new: bool
    """Passed today's gate; it scores where its export was proven (``proven``)."""
    live: LiveModel | None
    """What scores on where it was not."""
    ranking_version: str = ""
    """The ranking model, where the recipe re-ranks."""


def choose_model(
    evaluation: EvaluationRecord | None, live: LiveModel | None, run_date: date
) -> Choice:
    """The model that passed today's gate, or else the live release's; the reason is for the release.

    Raises:
        Refused: no model passed, and no release is live or its model is of a later day.
    """
    if evaluation is not None and evaluation.passed and evaluation.recipe is not None:
        return Choice(
            evaluation.model_version, evaluation.recipe, evaluation.reason,
            is_new=True, live=live, ranking_version=evaluation.ranking_version,
        )  # fmt: skip
    why = "no evaluation of this run date" if evaluation is None else evaluation.reason
    what_to_do = "Run train and evaluate; a first release needs `evaluate --bootstrap`"
    return _live_choice(live, run_date, why, what_to_do)


def proven(
    choice: Choice,
    manifest: ModelManifest,
    run_date: date,
    ranking: RankingManifest | None = None,
) -> Choice:
    """The choice; or the live model where nothing shows that a new one's ONNX file gives what torch gives.

    ``manifest`` is the chosen model's, ``ranking`` its ranking model's where the recipe re-ranks.

    Raises:
        Refused: nothing shows it, and no release is live or its model is of a later day.
    """
    made = (manifest,) if ranking is None else (manifest, ranking)
    unproven = [one for one in made if PARITY_FILE not in one.files]
    if not choice.is_new or not unproven:
        return choice
    kind = "ranking model" if isinstance(unproven[0], RankingManifest) else "model"
    why = (
        f"{kind} {unproven[0].model_version} passed the gate, but its manifest names no {PARITY_FILE}: its "
        "export failed the parity check or never had one; run export_onnx again"
    )
    return _live_choice(choice.live, run_date, why, "Run export_onnx, then score_top_n")


def _live_choice(live: LiveModel | None, run_date: date, why: str, what_to_do: str) -> Choice:
    if live is None:
        raise Refused(
            f"no model to score {run_date} with: {why}, and no release is live to fall back on. "
            f"Nothing was written. {what_to_do}"
        )
    if live.model_as_of > run_date:
        raise Refused(
            f"no model to score {run_date} with: {why}, and the live model {live.model_version} is as of "
            f"{live.model_as_of}: it has seen what came after. Nothing was written. Train for that day "
            f"(run_pipeline --run-date {run_date} --train always) a model that passes the gate, or serve a release of "
            "an older model (recsys release roll-back --to RELEASE) and run score_top_n again"
        )
    age_days = (run_date - live.model_as_of).days
    reason = f"the live model of {live.model_as_of} ({age_days} days old) scores on: {why}"
    return Choice(
        live.model_version, live.recipe, reason,
        is_new=False, live=live, ranking_version=live.ranking_version,
    )  # fmt: skip
