"""The ranking model's probabilities against two baselines: on the same rows, as rows of ``metrics``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.sections import EvaluationConfig
from recsys.errors import ContractError, CorruptArtifact, MissingInput
from recsys.evaluation.probabilities import auc, log_loss
from recsys.evaluation.ranking_figures import (
    Shown,
    popularity_probabilities,
    ranking_figures,
    ranking_rows,
)
from recsys.evaluation.report import metrics_table
from recsys.evaluation.rows import figures
from recsys.models.calibration import calibrated
from recsys.records import TrainingRecord
from tests.scoring.ranking_worlds import answers_file, ranking_folder

RUN_DATE, CUT_OFF = date(2024, 6, 29), date(2024, 6, 1)
NUM_USERS, NUM_ITEMS = 40, 5


@pytest.fixture
def config(tmp_path: Any) -> RecsysConfig:
    return RecsysConfig(
        paths=PathsConfig(root=str(tmp_path)), evaluation=EvaluationConfig(bootstrap_rounds=100)
    )


Said = Mapping[str, object]


def trained(
    config: RecsysConfig, calibration: tuple[float, float] = (0.0, 1.0), **said: Said
) -> TrainingRecord:
    """A night whose measured models, by role, said so much."""
    models = config.paths.models
    for role in said:
        ranking_folder(
            models, [0] * NUM_ITEMS, version=f"{role}{len(list(models.glob('*')))}",
            calibration_intercept=calibration[0], calibration_slope=calibration[1],
        )  # fmt: skip
    newest = {role: max(p.name for p in models.glob(f"{role}*")) for role in said}
    return TrainingRecord(
        run_date=RUN_DATE, trained=True, reason="due", ranking=newest,
        answers={role: answers_file(models, RUN_DATE, role, what) for role, what in said.items()},
    )  # fmt: skip


def answers(logit: float, noise: float = 0.0) -> dict[str, object]:
    """Each user took one of five items shown; ``logit`` is what the model gives it above the others."""
    user = np.repeat(np.arange(NUM_USERS), NUM_ITEMS)
    item = np.tile(np.arange(1, NUM_ITEMS + 1), NUM_USERS)
    taken = item == user % NUM_ITEMS + 1
    random = np.random.default_rng(3)
    logits = taken * logit - 2 + noise * random.normal(size=len(user))
    return {"user_S": user, "taken_S": taken, "item_nums_S": item, "logits_S": logits}


def test_a_model_that_knows_is_above_baselines_that_do_not(config: RecsysConfig) -> None:
    order = np.random.default_rng(1).permutation(NUM_USERS * NUM_ITEMS)  # of two ranks, say
    shuffled = {name: np.asarray(v)[order] for name, v in answers(1.0, noise=1.0).items()}
    night = trained(config, measuring=answers(4.0), linear=shuffled)

    found = ranking_figures(config, night)

    assert found is not None
    name, comparison = found
    assert (name, comparison.num_users, comparison.num_rows) == ("ranking_linear", 40, 200)
    assert comparison.figures[name, "auc"].value == 1
    assert 0.6 < comparison.figures["ranking_logistic", "auc"].value < 0.95
    # Every item was taken as often: popularity tells nothing.
    assert comparison.figures["ranking_popularity", "auc"].value < 0.6
    assert comparison.differences[name, "ranking_logistic", "log_loss"].high < 0

    rows = ranking_rows(config, RUN_DATE, CUT_OFF, night)
    named = figures(rows)
    assert named["measuring.ranking_linear.all.auc"] == 1
    assert named["measuring.ranking_linear.all.auc_above_ranking_popularity"] > 0.4
    assert {(row["k"], row["as_of"], row["num_users"]) for row in rows} == {(0, CUT_OFF, 40)}
    assert len(rows) == 3 * 3 + 3 * 3
    table = metrics_table(rows)
    assert "ranking_popularity" in table and "calibration error" in table


def test_without_a_linear_model_popularity_alone_is_beside_it(config: RecsysConfig) -> None:
    found = ranking_figures(config, trained(config, measuring=answers(2.0)))

    assert found is not None
    assert {name for name, _ in found[1].figures} == {"ranking_linear", "ranking_popularity"}


def test_answers_to_other_questions_are_not_compared(config: RecsysConfig) -> None:
    other = answers(2.0)
    other["item_nums_S"] = np.asarray(other["item_nums_S"]) % NUM_ITEMS + 1

    with pytest.raises(ContractError, match=r"taken_S differ: .* run train again"):
        ranking_figures(config, trained(config, measuring=answers(2.0), linear=other))


def test_missing_answers_damaged_ones_and_empty_ones(config: RecsysConfig) -> None:
    night = trained(config, measuring=answers(1.0))
    path = config.paths.models / night.answers["measuring"].file
    path.write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact, match=r"answers-2024-06-29-measuring\.npz is damaged"):
        ranking_figures(config, night)
    path.unlink()
    with pytest.raises(MissingInput, match=r"no .*-measuring\.npz: run train again"):
        ranking_figures(config, night)
    with pytest.raises(MissingInput, match="2024-06-29 names no answers of the ranking model meas"):
        ranking_figures(config, night.model_copy(update={"answers": {}}))

    nothing = {name: np.asarray(values)[:0] for name, values in answers(1.0).items()}
    assert ranking_figures(config, trained(config, measuring=nothing)) is None


def test_each_night_s_answers_are_its_own_though_the_model_is_the_same(
    config: RecsysConfig,
) -> None:
    first = trained(config, measuring=answers(4.0))
    later = {name: np.asarray(values)[NUM_ITEMS:] for name, values in answers(4.0).items()}
    models = config.paths.models
    said = answers_file(models, RUN_DATE + timedelta(days=1), "measuring", later)
    second = first.model_copy(
        update={"run_date": RUN_DATE + timedelta(days=1), "answers": {"measuring": said}}
    )
    found = [ranking_figures(config, night) for night in (first, second)]
    assert [one and one[1].num_users for one in found] == [NUM_USERS, NUM_USERS - 1]


def test_probabilities_are_calibrated_by_what_the_choosing_window_taught(
    config: RecsysConfig,
) -> None:
    sure = answers(2.0, noise=1.0)
    sure["logits_S"] = 3 * np.asarray(sure["logits_S"]) + 1  # three times too sure
    taken = np.asarray(sure["taken_S"])
    learned = calibrated(np.asarray(sure["logits_S"]), taken)

    raw = ranking_figures(config, trained(config, measuring=sure))
    found = ranking_figures(config, trained(config, learned, measuring=sure))

    assert raw is not None and found is not None
    before, after = raw[1].figures, found[1].figures
    wanted = log_loss(taken, learned.probabilities(np.asarray(sure["logits_S"])))
    assert after["ranking_linear", "log_loss"].value == pytest.approx(wanted)
    assert wanted < before["ranking_linear", "log_loss"].value - 0.02
    assert after["ranking_linear", "auc"].value == before["ranking_linear", "auc"].value


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
