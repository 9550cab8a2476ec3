"""How far predicted quantities are from what happened: MAE and RMSE, with intervals by a bootstrap over users.

mae    mean of |predicted - actual| over rows
rmse   square root of the mean of (predicted - actual)^2 over rows; never below mae

Both are in the unit of the quantity, from 0 on. Rows of one user are alike, so users are resampled and not rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ContractError
from recsys.evaluation.probabilities import PERCENTILES, Figure

# Shape suffixes in this file:
#   S rows   U users   K rounds of the bootstrap   3 what is summed
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDS_AT_ONCE = 50


def quantity_errors(
    predicted_S: Floats, actual_S: Floats, user_S: Ints, *, rounds: int = 1000, seed: int
) -> dict[str, Figure]:
    """``mae`` and ``rmse``, each with its 95 % interval; ``user_S`` is any number per user.

    Raises:
        ContractError: no rows, arrays of different lengths, or a value that is not finite.
    """
    _check(predicted_S, actual_S, user_S)
    distance_S = np.abs(predicted_S - actual_S)
    users, place_S = np.unique(user_S, return_inverse=True)
    sums_U3 = np.stack(
        [
            np.bincount(place_S, weights)
            for weights in (distance_S, distance_S**2, np.ones(len(place_S)))
        ],
        axis=1,
    )
    random = np.random.default_rng(seed)
    resampled: list[Floats] = []
    for start in range(0, rounds, ROUNDS_AT_ONCE):
        counts_KU = np.stack([
            np.bincount(random.integers(0, len(users), len(users)), minlength=len(users))
            for _ in range(start, min(start + ROUNDS_AT_ONCE, rounds))
        ]).astype(np.float64)  # fmt: skip
        resampled.append(_errors(counts_KU @ sums_U3))
    low, high = np.percentile(np.concatenate(resampled), PERCENTILES, axis=0)
    value = _errors(sums_U3.sum(axis=0))
    return {
        name: Figure(float(value[n]), float(low[n]), float(high[n]))
        for n, name in enumerate(("mae", "rmse"))
    }


def _errors(sums_K3: Floats) -> Floats:
    """(K, 2) mae and rmse of sums of distances, of their squares, and of rows."""
    absolute_K, squared_K, rows_K = np.moveaxis(sums_K3, -1, 0)
    return np.stack([absolute_K / rows_K, np.sqrt(squared_K / rows_K)], axis=-1)


def _check(predicted_S: Floats, actual_S: Floats, user_S: Ints) -> None:
    lengths = {"predicted": len(predicted_S), "actual": len(actual_S), "user": len(user_S)}
    if len(set(lengths.values())) > 1 or not len(predicted_S):
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ContractError(
            f"quantities need as many rows of each, and at least one; found {found}"
        )
    for name, values in (("predicted", predicted_S), ("actual", actual_S)):
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise ContractError(
                f"{name} quantity in row {wrong[0]} is {values[wrong[0]]} ({len(wrong)} such rows); "
                "leave out rows without a quantity"
            )
