from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ContractError
from recsys.evaluation.quantities import quantity_errors


def test_mae_and_rmse_of_three_rows() -> None:
    found = quantity_errors(
        np.array([1.0, 2.0, 7.0]),
        np.array([1.0, 4.0, 3.0]),
        np.array([5, 9, 9]),
        rounds=200,
        seed=1,
    )

    assert found["mae"].value == 2
    assert found["rmse"].value == pytest.approx(np.sqrt(20 / 3))
    assert (found["mae"].low, found["mae"].high) == (0, 3)  # one user or the other alone
    assert found["mae"].value <= found["rmse"].value


def test_they_are_means_over_rows_and_not_over_users() -> None:
    draw = np.random.default_rng(3)
    predicted, actual = draw.gamma(2, 3, 500), draw.gamma(2, 3, 500)

    found = quantity_errors(predicted, actual, draw.integers(0, 40, 500), rounds=100, seed=1)

    assert found["mae"].value == pytest.approx(np.mean(np.abs(predicted - actual)), abs=1e-12)
    assert found["rmse"].value == pytest.approx(
        np.sqrt(np.mean((predicted - actual) ** 2)), abs=1e-12
    )
    for figure in found.values():
        assert figure.low < figure.value < figure.high


def test_the_interval_is_wider_where_a_users_rows_are_alike() -> None:
    """The same rows, of 10 users or of 1,000: what repeats says less."""
    error = np.repeat(np.random.default_rng(5).gamma(2, 1, 10), 100)
    nothing = np.zeros(1000)

    few = quantity_errors(error, nothing, np.repeat(np.arange(10), 100), rounds=300, seed=1)["mae"]
    many = quantity_errors(error, nothing, np.arange(1000), rounds=300, seed=1)["mae"]

    assert few.high - few.low > 5 * (many.high - many.low)


def test_what_is_no_quantity_is_named() -> None:
    one = np.ones(2)
    with pytest.raises(ContractError, match="actual quantity in row 1 is nan"):
        quantity_errors(one, np.array([1, np.nan]), np.zeros(2, int), seed=1)
    with pytest.raises(ContractError, match="predicted 2, actual 1, user 2"):
        quantity_errors(one, one[:1], np.zeros(2, int), seed=1)
    with pytest.raises(ContractError, match="at least one"):
        quantity_errors(one[:0], one[:0], np.zeros(0, int), seed=1)
