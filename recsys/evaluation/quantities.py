"""How far predicted quantities are from what happened: MAE and RMSE, with intervals by a bootstrap over users.

mae    mean of |predicted - actual| over rows
rmse   square root of the mean of (predicted - actual)^2 over rows; never below mae

Both are in the unit of the quantity, from 0 on. Rows of one user are alike, so users are resampled and not rows. No
model of the nightly jobs predicts a quantity: this is for those who add one (docs/evaluation.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ContractError
from recsys.evaluation.intervals import interval, resamples
from recsys.evaluation.probabilities import Figure

# Shape suffixes in this file:
#   S rows   U users   K rounds of the bootstrap   3 what is summed
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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
    by_round_K2 = np.concatenate([
        _errors(counts_KU @ sums_U3) for _, counts_KU in resamples(len(users), rounds, seed)
    ])  # fmt: skip
    value = _errors(sums_U3.sum(axis=0))
    return {
        name: Figure(float(value[n]), *interval(by_round_K2[:, n]))
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
