"""The ranking model's probabilities against two baselines: on the same rows, as rows of ``metrics``."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.sections import EvaluationConfig
from recsys.errors import ContractError, MissingInput
from recsys.evaluation.probabilities import auc
from recsys.evaluation.ranking_figures import (
    Shown,
    popularity_probabilities,
    ranking_figures,
    ranking_rows,
)
from recsys.evaluation.report import metrics_table
from recsys.evaluation.rows import figures
from tests.scoring.ranking_worlds import ranking_folder

RUN_DATE, CUT_OFF = date(2024, 6, 29), date(2024, 6, 1)
NUM_USERS, NUM_ITEMS = 40, 5


@pytest.fixture
def config(tmp_path: Any) -> RecsysConfig:
    return RecsysConfig(
        paths=PathsConfig(root=str(tmp_path)), evaluation=EvaluationConfig(bootstrap_rounds=100)
    )


def answers(logit: float, noise: float = 0.0) -> dict[str, object]:
    """Each user took one of five items shown; ``logit`` is what the model gives it above the others."""
    user = np.repeat(np.arange(NUM_USERS), NUM_ITEMS)
    item = np.tile(np.arange(1, NUM_ITEMS + 1), NUM_USERS)
    taken = item == user % NUM_ITEMS + 1
    random = np.random.default_rng(3)
    logits = taken * logit - 2 + noise * random.normal(size=len(user))
    return {"user_S": user, "taken_S": taken, "item_nums_S": item, "logits_S": logits}


def test_a_model_that_knows_is_above_baselines_that_do_not(config: RecsysConfig) -> None:
    models = config.paths.models
    ranking_folder(models, [0] * NUM_ITEMS, version="knows", answers=answers(4.0))
    order = np.random.default_rng(1).permutation(NUM_USERS * NUM_ITEMS)  # of two ranks, say
    shuffled = {name: np.asarray(v)[order] for name, v in answers(1.0, noise=1.0).items()}
    ranking_folder(models, [0] * NUM_ITEMS, version="guesses", answers=shuffled)

    found = ranking_figures(config, "knows", "guesses")

    assert found is not None
    name, comparison = found
    assert (name, comparison.num_users, comparison.num_rows) == ("ranking_linear", 40, 200)
    assert comparison.figures[name, "auc"].value == 1
    assert 0.6 < comparison.figures["ranking_logistic", "auc"].value < 0.95
    # Every item was taken as often: popularity tells nothing.
    assert comparison.figures["ranking_popularity", "auc"].value < 0.6
    assert comparison.differences[name, "ranking_logistic", "log_loss"].high < 0

    rows = ranking_rows(config, RUN_DATE, CUT_OFF, {"measuring": "knows", "linear": "guesses"})
    named = figures(rows)
    assert named["measuring.ranking_linear.all.auc"] == 1
    assert named["measuring.ranking_linear.all.auc_above_ranking_popularity"] > 0.4
    assert {(row["k"], row["as_of"], row["num_users"]) for row in rows} == {(0, CUT_OFF, 40)}
    assert len(rows) == 3 * 3 + 3 * 3
    table = metrics_table(rows)
    assert "ranking_popularity" in table and "calibration error" in table


def test_without_a_linear_model_popularity_alone_is_beside_it(config: RecsysConfig) -> None:
    ranking_folder(config.paths.models, [0] * NUM_ITEMS, version="m", answers=answers(2.0))

    found = ranking_figures(config, "m", None)

    assert found is not None
    assert {name for name, _ in found[1].figures} == {"ranking_linear", "ranking_popularity"}


def test_answers_to_other_questions_are_not_compared(config: RecsysConfig) -> None:
    models = config.paths.models
    ranking_folder(models, [0] * NUM_ITEMS, version="m", answers=answers(2.0))
    other = answers(2.0)
    other["item_nums_S"] = np.asarray(other["item_nums_S"]) % NUM_ITEMS + 1
    ranking_folder(models, [0] * NUM_ITEMS, version="other", answers=other)

    with pytest.raises(ContractError, match=r"taken_S differ: .* run train again"):
        ranking_figures(config, "m", "other")


def test_missing_answers_and_empty_ones(config: RecsysConfig) -> None:
    models = config.paths.models
    ranking_folder(models, [0], version="none")
    with pytest.raises(MissingInput, match=r"no .*none/answers\.npz: run train again"):
        ranking_figures(config, "none", None)

    nothing: dict[str, object] = {name: np.asarray(v)[:0] for name, v in answers(1.0).items()}
    ranking_folder(models, [0], version="empty", answers=nothing)
    assert ranking_figures(config, "empty", None) is None


def test_popularity_is_fitted_on_the_other_half_of_the_users() -> None:
    random = np.random.default_rng(5)
    user_S = np.repeat(np.arange(400), 10)
    items_S = random.integers(1, 101, len(user_S))
    counts_I = np.arange(101) ** 2
    taken_S = random.random(len(user_S)) < items_S / 150  # what sells much is taken
    shown = Shown(user_S, taken_S, items_S, np.zeros(len(user_S)))

    found = popularity_probabilities(shown, counts_I, seed=17)

    assert auc(taken_S, found) > 0.65
    assert abs(found.mean() - taken_S.mean()) < 0.02
    # What a user took does not move what is said of them.
    others_S = taken_S ^ (user_S == 7)
    again = popularity_probabilities(shown._replace(taken_S=others_S), counts_I, seed=17)
    np.testing.assert_array_equal(again[user_S == 7], found[user_S == 7])
    assert not np.array_equal(again, found)
