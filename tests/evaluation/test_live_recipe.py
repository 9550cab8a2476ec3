"""As what the live recipe is measured, and what is said where it is not what it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys.config import RecsysConfig
from recsys.config.sections import TrainingConfig
from recsys.evaluation.live_recipe import Live, Refitted, refitted
from recsys.records import ModelManifest, Recipe, TrainingRecord
from tests.evaluation.shop import RUN_DATE
from tests.scoring.worlds import model_folder

RECIPE = Recipe(name="blend", model=0.5, transitions=1.0)
OF_TODAY = TrainingConfig()
MODELS = {"measuring": "todays"}


def a_model(length: int = 100, **training: Any) -> ModelManifest:
    settings = OF_TODAY.model_dump(mode="json") | training
    return ModelManifest(
        model_version="theirs", as_of=RUN_DATE, embedding_dim=16, history_length=length, num_items=3, epochs=7,
        training=settings,
    )  # fmt: skip


def found(
    config: RecsysConfig, model: ModelManifest | None, *,
    recipe: Recipe = RECIPE, models: dict[str, str] = MODELS, ranking: str = "",
) -> Refitted:  # fmt: skip
    if not (config.paths.models / "todays").exists():
        model_folder(config.paths.models, np.ones((4, 2)), version="todays")
    length = config.training_set.max_length
    live = Live("r1", recipe, model and model.model_copy(update={"history_length": length}))
    training = TrainingRecord(
        run_date=RUN_DATE, trained=True, reason="due", models=models,
        ranking={"measuring": ranking} if ranking else {},
    )  # fmt: skip
    return refitted(live, training, config)


def test_a_recipe_that_was_fitted_again_is_what_it_was(config: RecsysConfig) -> None:
    same = found(config, a_model())
    fitted = found(config, a_model(dropout=0.4), models={**MODELS, "live": "again"})
    without_a_model = found(config, None, recipe=Recipe(name="blend", transitions=1.0))

    assert (same.without, fitted.without, without_a_model.without) == ("", "", "")
    assert (same.entry.model_version, fitted.entry.model_version) == ("todays", "again")
    assert same.entry.recipe.name == "live"


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (None, "its folder has gone, and its settings with it"),
        (a_model(num_layers=3), "its settings are of another version of the code"),
        (a_model(dropout=0.4), "train did not know of its settings"),
    ],
)
def test_todays_model_in_its_place_is_told(
    model: ModelManifest | None, why: str, config: RecsysConfig
) -> None:
    stands_in = found(config, model)

    assert stands_in.entry.model_version == "todays"
    assert stands_in.without == f"its own model, with today's in its place ({why})"


def test_a_history_of_another_length_is_told_with_both(config: RecsysConfig) -> None:
    longer = config.model_copy(
        update={"training_set": config.training_set.model_copy(update={"max_length": 64})}
    )
    model_folder(config.paths.models, np.ones((4, 2)), version="todays")
    training = TrainingRecord(run_date=RUN_DATE, trained=True, reason="due", models=MODELS)

    told = refitted(Live("r1", RECIPE, a_model(length=50)), training, longer).without

    assert "(it looks at 50 events, today's examples have 64)" in told


def test_a_batch_that_does_not_divide_is_told(config: RecsysConfig) -> None:
    of_two = config.training.model_copy(update={"launcher": "horovodrun", "num_processes": 2})
    today = config.model_copy(update={"training": of_two})

    told = found(today, a_model(global_batch_size=33)).without

    assert "(its batch of 33 does not divide over 2 processes)" in told


def test_stage_two_is_todays_or_left_out(config: RecsysConfig) -> None:
    re_ranks = RECIPE.model_copy(update={"rerank": 50})

    todays = found(config, a_model(), recipe=re_ranks, ranking="ranks")
    neither = found(config, None, recipe=re_ranks)

    assert (todays.without, todays.entry.ranking_version) == ("", "ranks")
    assert todays.entry.recipe.re_ranks and not neither.entry.recipe.re_ranks
    assert neither.without == (
        "its own model, with today's in its place (its folder has gone, and its settings with it) and without "
        "stage 2 (no ranking model was fitted at that cut-off)"
    )
