"""From a ranking model's logit to a probability: an intercept and a slope (Platt 1999). Only numpy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Shape suffixes in this file:
#   S rows
Floats = NDArray[np.float64]

SMALLEST = 1e-7
"""Shares are kept this far from 0 and 1: their logits stay finite."""
NEWTON_STEPS = 50


class Calibration(NamedTuple):
    """``sigmoid(intercept + slope * logit)``; the slope is above 0, so that no order changes.

    It holds where candidates come as they came when it was fitted: each item taken beside
    ``ranking.num_negatives`` that were not, half uniform, half by popularity. Where one in a thousand is taken, the
    probabilities are too high; there only their order means something.
    """

    intercept: float = 0.0
    slope: float = 1.0

    def probabilities(self, logits_S: Floats) -> Floats:
        return sigmoid(self.intercept + self.slope * logits_S)


def calibrated(logits_S: Floats, taken_S: NDArray[np.bool_]) -> Calibration:
    """Fitted on what a model said of items, and what was taken; none where that says nothing.

    Six decimals: last bits that differ between machines make no other model.
    """
    if not 0 < taken_S.sum() < len(taken_S):
        return Calibration()
    intercept, slope = logistic_fit(logits_S, taken_S)
    # A model that puts what is taken last is wrong, and no probability is made of it.
    if slope <= 0:
        return Calibration()
    return Calibration(round(intercept, 6), max(round(slope, 6), 1e-6))


def logistic_fit(values_S: Floats, taken_S: NDArray[np.bool_]) -> tuple[float, float]:
    """Intercept and slope of the logistic regression on one number, by Newton's method.

    Values that are all equal have no slope: 0. A little ridge keeps separable rows finite.
    """
    design = np.stack([np.ones_like(values_S), values_S], axis=1)
    share = np.clip(taken_S.mean(), SMALLEST, 1 - SMALLEST)
    found = np.array([np.log(share / (1 - share)), 0.0])
    if np.ptp(values_S) == 0:
        return float(found[0]), 0.0
    ridge = 1e-6 * np.eye(2)
    for _ in range(NEWTON_STEPS):
        probability_S = sigmoid(design @ found)
        slope = design.T @ (taken_S - probability_S) - ridge @ found
        curve = (design * (probability_S * (1 - probability_S))[:, None]).T @ design + ridge
        step = np.linalg.solve(curve, slope)
        found = found + step
        if np.abs(step).max() < 1e-10:  # noqa: PLR2004 (converged)
            break
    return float(found[0]), float(found[1])


def sigmoid(logits_S: Floats) -> Floats:
    """Never overflows."""
    exp_S = np.exp(-np.abs(logits_S))
    found: Floats = np.where(logits_S >= 0, 1.0, exp_S) / (1.0 + exp_S)
    return found
