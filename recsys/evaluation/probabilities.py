"""How good probabilities are: AUC, log loss and calibration error, with intervals by a bootstrap over users.

auc                 the share of (taken, not taken) pairs that are in the right order; a tie is half of one
log_loss            mean of -log of the probability given to what happened
calibration_error   ECE: in bins of equal mass, the mean distance between the mean probability and the share taken

Rows of one user are alike, so users are resampled and not rows; differences are paired: both sides see the same
resampled users. The bins of the calibration error are those of the whole sample in every round.

A calibration error is a mean of distances, which chance makes larger, in the sample as in its resamples: their mean
lies above the figure. Its interval is theirs, moved back by so much but not below 0, and says what another sample of
users would give: also of probabilities that are right, the figure is above 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ContractError
from recsys.evaluation.intervals import interval, resamples
from recsys.models.calibration import SMALLEST

# Shape suffixes in this file:
#   S rows   T rows that were taken   U users   N bins, or rows not taken   G groups of equal values   K rounds
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CALIBRATION_ERROR = "calibration_error"
METRICS = ("auc", "log_loss", CALIBRATION_ERROR)
BINS = 15


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Figures by (model, metric); differences by (model, other, metric), the first minus the second."""

    figures: dict[tuple[str, str], Figure]
    differences: dict[tuple[str, str, str], Figure]
    num_users: int
    num_rows: int


def compare(
    taken_S: NDArray[np.bool_],
    probabilities: Mapping[str, Floats],
    user_S: Ints,
    *,
    rounds: int = 1000,
    seed: int,
) -> Comparison:
    """Every model's figures on the same rows, and the differences of every two.

    Raises:
        ContractError: no rows, only one kind of them, or a probability that is none; the model is named.
    """
    _check(taken_S, probabilities)
    users, place_S = np.unique(user_S, return_inverse=True)
    measures = {n: _Measure(taken_S, p, place_S, len(users)) for n, p in probabilities.items()}
    whole = {name: measure.of(np.ones((1, len(users))))[0] for name, measure in measures.items()}
    resampled: dict[str, list[Floats]] = {name: [] for name in measures}
    for _, counts_KU in resamples(len(users), rounds, seed, row_cells=len(taken_S)):
        for name, measure in measures.items():
            resampled[name].append(measure.of(counts_KU))
    by_round = {name: np.concatenate(parts) for name, parts in resampled.items()}
    figures, differences = {}, {}
    for number, metric in enumerate(METRICS):
        for name in measures:
            rounds_K = by_round[name][:, number]
            if metric == CALIBRATION_ERROR:
                rounds_K = rounds_K - rounds_K.mean() + whole[name][number]
            by_round[name][:, number] = rounds_K
            found = _figure(whole[name][number], rounds_K)
            figures[name, metric] = replace(found, low=max(found.low, 0.0))
        for name, other in combinations(measures, 2):
            differences[name, other, metric] = _figure(
                whole[name][number] - whole[other][number],
                by_round[name][:, number] - by_round[other][:, number],
            )
    return Comparison(figures, differences, len(users), len(taken_S))


def auc(taken_S: NDArray[np.bool_], scores_S: Floats) -> float:
    """NaN where nothing was taken, or everything."""
    rows_S = np.arange(len(taken_S))
    return float(_Auc(taken_S, scores_S, rows_S).of(np.ones((1, len(taken_S))))[0])


def log_loss(taken_S: NDArray[np.bool_], probabilities_S: Floats) -> float:
    """Mean over the rows."""
    return float(_losses(taken_S, probabilities_S).mean())


def calibration_error(
    taken_S: NDArray[np.bool_], probabilities_S: Floats, *, bins: int = BINS
) -> float:
    """Over bins of equal mass; rows of equal probability share a bin."""
    bin_S = equal_mass_bins(probabilities_S, bins)
    gap_N = np.bincount(bin_S, weights=taken_S - probabilities_S, minlength=bins)
    return float(np.abs(gap_N).sum() / len(taken_S))


def equal_mass_bins(values_S: Floats, bins: int) -> Ints:
    """The bin of each row, 0 to bins - 1, ascending; equal values are in one bin: that of their middle."""
    _, group_S, counts_G = np.unique(values_S, return_inverse=True, return_counts=True)
    middle_G = np.cumsum(counts_G) - 0.5 * counts_G
    bin_G = np.minimum((middle_G * bins / len(values_S)).astype(np.int64), bins - 1)
    chosen: Ints = bin_G[group_S]
    return chosen


class _Auc:
    """The AUC under any weights of the users, from one sort of the rows that were not taken."""

    def __init__(self, taken_S: NDArray[np.bool_], scores_S: Floats, place_S: Ints) -> None:
        order_N = np.argsort(scores_S[~taken_S], kind="stable")
        other_N = scores_S[~taken_S][order_N]
        self.other_place_N, self.taken_place_T = place_S[~taken_S][order_N], place_S[taken_S]
        self.worse_T = np.searchsorted(other_N, scores_S[taken_S], side="left")
        self.not_better_T = np.searchsorted(other_N, scores_S[taken_S], side="right")

    def of(self, counts_KU: Floats) -> Floats:
        # Rounds last: a row's users are gathered for all rounds at once.
        counts_UK = np.ascontiguousarray(counts_KU.T)
        below_NK = np.zeros((len(self.other_place_N) + 1, len(counts_KU)))
        np.cumsum(counts_UK[self.other_place_N], axis=0, out=below_NK[1:])
        taken_TK = counts_UK[self.taken_place_T]
        twice_TK = below_NK[self.worse_T] + below_NK[self.not_better_T]
        pairs_K = taken_TK.sum(axis=0) * below_NK[-1]
        with np.errstate(invalid="ignore"):
            found: Floats = 0.5 * (taken_TK * twice_TK).sum(axis=0) / pairs_K
        return found


class _Measure:
    """One model's figures under any weights of the users."""

    def __init__(
        self, taken_S: NDArray[np.bool_], probabilities_S: Floats, place_S: Ints, num_users: int
    ) -> None:
        self.auc = _Auc(taken_S, probabilities_S, place_S)
        self.rows_U = np.bincount(place_S, minlength=num_users).astype(np.float64)
        losses_S = _losses(taken_S, probabilities_S)
        self.losses_U = np.bincount(place_S, weights=losses_S, minlength=num_users)
        key_S = place_S * BINS + equal_mass_bins(probabilities_S, BINS)
        gaps = np.bincount(key_S, weights=taken_S - probabilities_S, minlength=num_users * BINS)
        self.gaps_UN = gaps.reshape(num_users, BINS)

    def of(self, counts_KU: Floats) -> Floats:
        """(K, metric)."""
        rows_K = counts_KU @ self.rows_U
        error_K = np.abs(counts_KU @ self.gaps_UN).sum(axis=1) / rows_K
        return np.stack(
            [self.auc.of(counts_KU), counts_KU @ self.losses_U / rows_K, error_K], axis=1
        )


def _losses(taken_S: NDArray[np.bool_], probabilities_S: Floats) -> Floats:
    # One sure mistake must not be infinite.
    clipped_S = np.clip(probabilities_S, SMALLEST, 1 - SMALLEST)
    losses_S: Floats = -np.log(np.where(taken_S, clipped_S, 1 - clipped_S))
    return losses_S


def _figure(value: np.float64, resampled_K: Floats) -> Figure:
    return Figure(float(value), *interval(resampled_K))


def _check(taken_S: NDArray[np.bool_], probabilities: Mapping[str, Floats]) -> None:
    taken = int(taken_S.sum())
    if not 0 < taken < len(taken_S):
        raise ContractError(
            f"{len(taken_S)} rows of which {taken} were taken: probabilities cannot be measured without both kinds"
        )
    for name, values_S in probabilities.items():
        if values_S.shape != taken_S.shape or not ((values_S >= 0) & (values_S <= 1)).all():
            raise ContractError(
                f"{name} gives {len(values_S)} numbers for {len(taken_S)} rows, "
                f"{int((~((values_S >= 0) & (values_S <= 1))).sum())} of them no probabilities"
            )
