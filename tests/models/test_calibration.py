"""From logits to probabilities: what the fit recovers, and what it never does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.models.calibration import Calibration, calibrated, logistic_fit, sigmoid


def test_logits_that_are_too_sure_are_brought_back() -> None:
    random = np.random.default_rng(1)
    true_S = random.normal(-1.4, 1.2, 40_000)
    taken_S = random.random(len(true_S)) < sigmoid(true_S)

    found = calibrated(2 * true_S + 3, taken_S)

    assert found.slope == pytest.approx(0.5, rel=0.05)
    assert found.intercept == pytest.approx(-1.5, rel=0.05)
    assert found.probabilities(2 * true_S + 3).mean() == pytest.approx(taken_S.mean(), abs=1e-4)


@given(st.lists(st.tuples(st.booleans(), st.integers(-20, 20)), max_size=30))
def test_the_order_never_changes(rows: list[tuple[bool, int]]) -> None:
    taken_S = np.array([taken for taken, _ in rows], dtype=bool)
    found = calibrated(np.array([float(logit) for _, logit in rows]), taken_S)
    assert found.slope > 0
    assert (np.diff(found.intercept + found.slope * np.arange(-30.0, 30.0)) > 0).all()


@pytest.mark.parametrize(
    ("logits", "taken"),
    [
        ([], []),
        ([1.0, 2.0], [True, True]),  # nothing that was not taken
        ([1.0, 2.0], [False, False]),
        ([3.0, 3.0], [True, False]),  # no order
        ([3.0, 1.0], [False, True]),  # the wrong one
    ],
)
def test_what_teaches_nothing_leaves_logits_as_they_are(
    logits: list[float], taken: list[bool]
) -> None:
    assert calibrated(np.array(logits), np.array(taken, dtype=bool)) == Calibration(0.0, 1.0)


def test_the_fit_finds_the_line_that_made_the_rows() -> None:
    random = np.random.default_rng(2)
    values = random.random(100_000) * 4
    taken = random.random(len(values)) < sigmoid(-2.0 + 0.7 * values)
    intercept, slope = logistic_fit(values, taken)
    assert intercept == pytest.approx(-2.0, abs=0.05)
    assert slope == pytest.approx(0.7, abs=0.03)
    # At the best fit the probabilities are right on average, for every weight of the line.
    gap = taken - sigmoid(intercept + slope * values)
    assert abs(gap.mean()) < 1e-6 and abs((gap * values).mean()) < 1e-6


def test_a_fit_to_equal_values_is_the_share_and_separable_rows_stay_finite() -> None:
    intercept, slope = logistic_fit(np.ones(5), np.array([True, False, False, False, False]))
    assert intercept == pytest.approx(math.log(0.25))
    assert slope == 0.0
    assert np.isfinite(logistic_fit(np.array([0.0, 1.0]), np.array([False, True]))).all()
