"""AUC, log loss and calibration error against their definitions, and intervals that cover what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.errors import ContractError
from recsys.evaluation.probabilities import (
    auc,
    calibration_error,
    compare,
    equal_mass_bins,
    log_loss,
)
from recsys.models.calibration import sigmoid

rows = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40).filter(
    lambda found: 0 < sum(taken for taken, _ in found) < len(found)
)


def arrays(found: list[tuple[bool, int]]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Few distinct values: many ties."""
    return np.array([t for t, _ in found]), np.array([v for _, v in found]) / 6


@given(rows)
def test_auc_is_the_share_of_pairs_in_the_right_order_ties_half(
    found: list[tuple[bool, int]],
) -> None:
    taken, scores = arrays(found)
    pairs = [(s, o) for s in scores[taken] for o in scores[~taken]]
    wanted = sum((s > o) + 0.5 * (s == o) for s, o in pairs) / len(pairs)
    assert auc(taken, scores) == pytest.approx(wanted)


def test_auc_needs_both_kinds() -> None:
    assert math.isnan(auc(np.array([True, True]), np.array([0.1, 0.2])))


def test_log_loss_is_clipped() -> None:
    taken = np.array([True, False, True])
    found = log_loss(taken, np.array([1.0, 0.5, 0.0]))
    assert found == pytest.approx((0 + math.log(2) - math.log(1e-7)) / 3, abs=1e-6)


def test_calibration_error_of_bins_by_hand() -> None:
    taken = np.array([True, False, True, True])
    probabilities = np.array([0.2, 0.3, 0.6, 0.9])
    # two bins of two rows: |1 - 0.5| and |2 - 1.5| over four rows
    assert calibration_error(taken, probabilities, bins=2) == pytest.approx(0.25)


@given(rows, st.integers(1, 15))
def test_equal_probabilities_share_a_bin_and_bins_ascend(
    found: list[tuple[bool, int]], bins: int
) -> None:
    _, values = arrays(found)
    bin_of = equal_mass_bins(values, bins)
    assert ((bin_of >= 0) & (bin_of < bins)).all()
    for one in range(len(values)):
        for other in range(len(values)):
            if values[one] <= values[other]:
                assert bin_of[one] <= bin_of[other]


def test_bins_have_equal_mass() -> None:
    assert (
        np.bincount(equal_mass_bins(np.random.default_rng(1).random(150), 15)).tolist() == [10] * 15
    )


def shop(users: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    """Rows whose probabilities are true, and a user's rows lean the same way."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), random.integers(1, 12, users))
    leaning = np.asarray(random.normal(size=users), dtype=np.float64)[user]
    noise = np.asarray(random.normal(size=len(user)), dtype=np.float64)
    probability = sigmoid(leaning + noise - 1.0)
    return random.random(len(user)) < probability, probability, user


def test_a_calibration_error_is_never_said_to_be_below_zero() -> None:
    taken = np.random.default_rng(1).random(1500) < 0.1
    found = compare(taken, {"constant": np.full(1500, 0.1)}, np.arange(1500) // 5, seed=3)
    figure = found.figures["constant", "calibration_error"]
    assert 0 <= figure.low <= figure.value < figure.high


def test_figures_have_intervals_and_differences_are_paired() -> None:
    taken, probability, user = shop(400, seed=3)
    worse = np.clip(probability + np.random.default_rng(4).normal(size=len(user)) * 0.3, 0.01, 0.99)
    found = compare(
        taken, {"model": probability, "worse": worse, "same": probability}, user, rounds=300, seed=5
    )
    assert (found.num_users, found.num_rows) == (400, len(user))
    for name in ("model", "worse"):
        values = {"model": probability, "worse": worse}[name]
        wanted = [auc(taken, values), log_loss(taken, values), calibration_error(taken, values)]
        for metric, value in zip(("auc", "log_loss", "calibration_error"), wanted, strict=True):
            figure = found.figures[name, metric]
            assert figure.value == pytest.approx(value)
            assert figure.low < figure.value < figure.high, metric
    gain = found.differences["model", "worse", "auc"]
    assert 0 < gain.low < gain.value < gain.high
    widths = [f.high - f.low for f in (found.figures[n, "auc"] for n in ("model", "worse"))]
    assert gain.high - gain.low < sum(widths)
    same = found.differences["model", "same", "log_loss"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    again = compare(taken, {"model": probability, "worse": worse}, user, rounds=300, seed=5)
    assert again.figures["model", "auc"] == found.figures["model", "auc"]


def test_the_bootstrap_of_the_auc_is_that_of_resampled_users() -> None:
    taken, probability, user = shop(30, seed=6)
    found = compare(taken, {"model": probability}, user, rounds=200, seed=7)
    random, values = np.random.default_rng(7), []
    for _ in range(200):
        drawn = random.integers(0, 30, 30)
        rows_of = np.concatenate([np.flatnonzero(user == u) for u in drawn])
        values.append(auc(taken[rows_of], probability[rows_of]))
    low, high = np.percentile(values, [2.5, 97.5])
    figure = found.figures["model", "auc"]
    assert figure.low == pytest.approx(low)
    assert figure.high == pytest.approx(high)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ContractError, match="2 rows of which 2 were taken"):
        compare(np.array([True, True]), {}, np.array([0, 1]), seed=1)
    with pytest.raises(
        ContractError, match="model gives 2 numbers for 2 rows, 1 of them no probab"
    ):
        compare(
            np.array([True, False]), {"model": np.array([0.5, np.nan])}, np.array([0, 1]), seed=1
        )
