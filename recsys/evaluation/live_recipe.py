"""The live release's recipe as the gate compares with it: fitted at the measuring cut-off, as far as that can be.

Where it cannot, something of today's stands in for what it had, which may make it weaker or stronger than it is: what
it was measured without goes into the gate's verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from recsys.config import RecsysConfig
from recsys.config.sections import TrainingConfig
from recsys.evaluation.recommenders import LIVE
from recsys.records import ModelManifest, Recipe, TrainingRecord
from recsys.scoring.scorer import Entry
from recsys.training.preparation import other_settings, why_not_fitted_again

log = structlog.get_logger()


@dataclass(frozen=True)
class Live:
    """The live release, as the gate needs it."""

    release_id: str
    recipe: Recipe
    model: ModelManifest | None = None
    """None where its folder has gone."""


@dataclass(frozen=True)
class Refitted:
    """Who is measured as the live recipe."""

    entry: Entry
    without: str = ""
    """What of it, and why; empty where it is as it was."""


def refitted(live: Live, training: TrainingRecord, config: RecsysConfig) -> Refitted:
    """The live recipe with what was fitted at the measuring cut-off: its stage 2 is today's ranking model."""
    recipe = live.recipe.model_copy(update={"name": LIVE})
    models, ranking_version = training.models, training.ranking.get("measuring", "")
    without = []
    if why := _why_without_its_model(live, training, config):
        without.append(f"its own model, with today's in its place ({why})")
    if recipe.re_ranks and not ranking_version:
        without.append("stage 2 (no ranking model was fitted at that cut-off)")
        recipe = recipe.model_copy(update={"rerank": 0, "rerank_weight": 1.0})
    told = " and without ".join(without)
    if told:
        log.warning("live_recipe_without", release=live.release_id, without=told)
    entry = Entry(recipe, models.get("live", models["measuring"]), ranking_version)
    return Refitted(entry, told)


def _why_without_its_model(live: Live, training: TrainingRecord, config: RecsysConfig) -> str:
    """Empty where its model was fitted again, where today's is the same, or where it uses none."""
    if live.recipe.model == 0 or "live" in training.models:
        return ""
    if live.model is None:
        return "its folder has gone, and its settings with it"
    if why := why_not_fitted_again(config, live.model):
        return why
    # What train had, whatever conf says now.
    trained = ModelManifest.read(config.paths.models / training.models["measuring"])
    todays = TrainingConfig.model_validate(trained.training)
    if other_settings(config.model_copy(update={"training": todays}), live.model) is None:
        return ""
    return "train did not know of its settings"
