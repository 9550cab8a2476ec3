"""How good the ranking model's probabilities are, beside a logistic and a popularity baseline."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from recsys.config import RecsysConfig
from recsys.errors import ContractError, MissingInput
from recsys.evaluation.probabilities import Comparison, Floats, Ints, compare
from recsys.evaluation.rows import Row, probability_rows
from recsys.models.calibration import Calibration, logistic_fit, sigmoid
from recsys.models.ranking_fields import Attributes
from recsys.records import ATTRIBUTES_FILE, RankingManifest, TrainingRecord
from recsys.training.checkpoint import read_arrays

# Shape suffixes in this file:
#   S items shown to users, flat   U users
log = structlog.get_logger()

LOGISTIC, POPULARITY = "ranking_logistic", "ranking_popularity"
"""The same fields without interactions, fitted as the model is; and the item's popularity alone."""


class Shown(NamedTuple):
    """What a model said of items shown to users of the measuring window, ordered by user and item."""

    user_S: Ints
    taken_S: NDArray[np.bool_]
    item_nums_S: Ints
    logits_S: Floats


def ranking_rows(
    config: RecsysConfig, run_date: date, cut_off: date, training: TrainingRecord
) -> list[Row]:
    """Rows of ``metrics``, logged too; the errors of ``ranking_figures``."""
    found = ranking_figures(config, training)
    if found is None:
        return []
    name, comparison = found
    for (model, metric), figure in comparison.figures.items():
        log.info(
            "probabilities_measured", model=model, metric=metric, value=round(figure.value, 5),
            low=round(figure.low, 5), high=round(figure.high, 5),
        )  # fmt: skip
    log.info("ranking_measured", model=name, users=comparison.num_users, rows=comparison.num_rows)
    common = {"run_date": run_date, "window": "measuring", "as_of": cut_off}
    return probability_rows(comparison, common)


def ranking_figures(
    config: RecsysConfig, training: TrainingRecord
) -> tuple[str, Comparison] | None:
    """The ranking model's name among recommenders, and its figures; None where nothing was shown.

    Both models were fitted before the measuring window and asked about the same rows of that window. Their logits
    become probabilities by what the manifest says, which was learned on the choosing window.

    Raises:
        MissingInput: a model, or its answers, are not there.
        CorruptArtifact: a file is not what the manifest says.
        ContractError: the two were not asked about the same rows.
    """
    folder, manifest, shown = _asked(config, training, "measuring")
    name = f"ranking_{manifest.ranking.get('interaction', '')}"
    if not shown.taken_S.any():
        log.warning("ranking_not_measured", reason="no known target in the measuring window")
        return None
    probabilities = {name: calibration_of(manifest).probabilities(shown.logits_S)}
    if "linear" in training.ranking:
        _, of_linear, baseline = _asked(config, training, "linear")
        _check_same_rows(training, shown, baseline)
        probabilities[LOGISTIC] = calibration_of(of_linear).probabilities(baseline.logits_S)
    counts_I = Attributes.of(read_arrays(folder / ATTRIBUTES_FILE)).num_events_I
    seed = config.evaluation.seed
    probabilities[POPULARITY] = popularity_probabilities(shown, counts_I, seed=seed)
    rounds = config.evaluation.bootstrap_rounds
    return name, compare(shown.taken_S, probabilities, shown.user_S, rounds=rounds, seed=seed)


def calibration_of(manifest: RankingManifest) -> Calibration:
    return Calibration(manifest.calibration_intercept, manifest.calibration_slope)


def _asked(
    config: RecsysConfig, training: TrainingRecord, role: str
) -> tuple[Path, RankingManifest, Shown]:
    """A model's folder and manifest, and what it said that night."""
    if role not in training.answers:
        raise MissingInput(
            f"the record of train for {training.run_date} names no answers of the ranking model {role}: "
            "run train again"
        )
    folder = config.paths.models / training.ranking[role]
    manifest = RankingManifest.verified(folder)
    return folder, manifest, read_answers(training.answers[role].verified(config.paths))


def read_answers(path: Path) -> Shown:
    """In the order of users and items, whatever the order of the file."""
    arrays: dict[str, Any] = read_arrays(path)
    order = np.lexsort((arrays["taken_S"], arrays["item_nums_S"], arrays["user_S"]))
    return Shown(
        arrays["user_S"][order].astype(np.int64),
        arrays["taken_S"][order].astype(bool),
        arrays["item_nums_S"][order].astype(np.int64),
        arrays["logits_S"][order].astype(np.float64),
    )


def popularity_probabilities(shown: Shown, num_events_I: Ints, *, seed: int) -> Floats:
    """A logistic regression on log1p of the item's count, fitted on half of the users for the other half.

    It is fitted on users of the very window it is measured on, which favours it: the models were not.
    """
    users, place_S = np.unique(shown.user_S, return_inverse=True)
    half_U = np.random.default_rng(seed).permutation(len(users)) % 2 == 0
    value_S = np.log1p(num_events_I[shown.item_nums_S].astype(np.float64))
    probability_S = np.empty(len(value_S))
    for half in (True, False):
        asked_S = half_U[place_S] == half
        # One user alone has nobody to learn from but themselves.
        learnt_S = ~asked_S if (~asked_S).any() else asked_S
        intercept, slope = logistic_fit(value_S[learnt_S], shown.taken_S[learnt_S])
        probability_S[asked_S] = sigmoid(intercept + slope * value_S[asked_S])
    return probability_S


def _check_same_rows(training: TrainingRecord, shown: Shown, baseline: Shown) -> None:
    for name, mine, theirs in zip(Shown._fields[:3], shown[:3], baseline[:3], strict=True):
        if not np.array_equal(mine, theirs):
            raise ContractError(
                f"{training.answers['measuring'].file} has {len(mine)} rows, {training.answers['linear'].file} "
                f"{len(theirs)}, and their {name} differ: the two are compared on the same rows or not at all; "
                "run train again"
            )
