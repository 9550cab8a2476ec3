"""How good the ranking model's probabilities are, beside a logistic and a popularity baseline."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from recsys.config import RecsysConfig
from recsys.errors import ContractError, MissingInput
from recsys.evaluation.probabilities import Comparison, Floats, Ints, compare, logistic_fit, sigmoid
from recsys.evaluation.rows import Row, probability_rows
from recsys.models.ranking_fields import Attributes
from recsys.records import ANSWERS_FILE, ATTRIBUTES_FILE, RankingManifest
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
    config: RecsysConfig, run_date: date, cut_off: date, rankings: Mapping[str, str]
) -> list[Row]:
    """Rows of ``metrics`` from ``TrainingRecord.ranking``, logged too; the errors of ``ranking_figures``."""
    found = ranking_figures(config, rankings["measuring"], rankings.get("linear"))
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
    config: RecsysConfig, measuring: str, linear: str | None
) -> tuple[str, Comparison] | None:
    """The ranking model's name among recommenders, and its figures; None where nothing was shown.

    ``measuring`` and ``linear`` are versions of models fitted before the measuring window, which were asked
    about the same rows of that window.

    Raises:
        MissingInput: a model, or its answers, are not there.
        CorruptArtifact: a file is not what the manifest says.
        ContractError: the two were not asked about the same rows.
    """
    folder = config.paths.models / measuring
    manifest = RankingManifest.verified(folder)
    name = f"ranking_{manifest.ranking.get('interaction', '')}"
    shown = read_answers(folder)
    if not shown.taken_S.any():
        log.warning("ranking_not_measured", reason="no known target in the measuring window")
        return None
    probabilities = {name: sigmoid(shown.logits_S)}
    if linear is not None:
        other = config.paths.models / linear
        RankingManifest.verified(other)
        baseline = read_answers(other)
        _check_same_rows(folder, shown, other, baseline)
        probabilities[LOGISTIC] = sigmoid(baseline.logits_S)
    counts_I = Attributes.of(read_arrays(folder / ATTRIBUTES_FILE)).item_count_I
    seed = config.evaluation.seed
    probabilities[POPULARITY] = popularity_probabilities(shown, counts_I, seed=seed)
    rounds = config.evaluation.bootstrap_rounds
    return name, compare(shown.taken_S, probabilities, shown.user_S, rounds=rounds, seed=seed)


def read_answers(folder: Path) -> Shown:
    """Raises MissingInput where train did not measure this model."""
    path = folder / ANSWERS_FILE
    if not path.exists():
        raise MissingInput(f"no {path}: run train again")
    arrays: dict[str, Any] = read_arrays(path)
    order = np.lexsort((arrays["taken_S"], arrays["item_nums_S"], arrays["user_S"]))
    return Shown(
        arrays["user_S"][order].astype(np.int64),
        arrays["taken_S"][order].astype(bool),
        arrays["item_nums_S"][order].astype(np.int64),
        arrays["logits_S"][order].astype(np.float64),
    )


def popularity_probabilities(shown: Shown, item_count_I: Ints, *, seed: int) -> Floats:
    """A logistic regression on log1p of the item's count, fitted on half of the users for the other half.

    It is fitted on users of the very window it is measured on, which favours it: the models were not.
    """
    users, place_S = np.unique(shown.user_S, return_inverse=True)
    half_U = np.random.default_rng(seed).permutation(len(users)) % 2 == 0
    value_S = np.log1p(item_count_I[shown.item_nums_S].astype(np.float64))
    probability_S = np.empty(len(value_S))
    for half in (True, False):
        asked_S = half_U[place_S] == half
        # One user alone has nobody to learn from but themselves.
        learnt_S = ~asked_S if (~asked_S).any() else asked_S
        intercept, slope = logistic_fit(value_S[learnt_S], shown.taken_S[learnt_S])
        probability_S[asked_S] = sigmoid(intercept + slope * value_S[asked_S])
    return probability_S


def _check_same_rows(folder: Path, shown: Shown, other: Path, baseline: Shown) -> None:
    for name, mine, theirs in zip(Shown._fields[:3], shown[:3], baseline[:3], strict=True):
        if not np.array_equal(mine, theirs):
            raise ContractError(
                f"{folder / ANSWERS_FILE} has {len(mine)} rows, {other / ANSWERS_FILE} {len(theirs)}, and their "
                f"{name} differ: the two are compared on the same rows or not at all; run train again"
            )
