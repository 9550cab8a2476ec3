"""The closed form is the least-squares solution that it claims to be."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ConfigError
from recsys.recommenders import Shop
from recsys.recommenders.linear_items import LinearItems
from tests.recommenders.worlds import groups, histories


def test_the_weights_are_the_ridge_solution() -> None:
    shop = Shop(4, histories([[1, 2, 3], [2, 4], [3, 1, 2], [1, 2]]))

    fitted = LinearItems(regularisation=2.0, decay=0.5, later=0.25, kept=5, late_power=0.0).fit(
        shop
    )

    around = np.array(
        [
            # 1, 2, 3, 4 around each event, by hand: before at 1 and 0.5, after at a quarter of it
            [0, 0.25, 0.125, 0],
            [1, 0, 0.25, 0],
            [0.5, 1, 0, 0],
            [0, 0, 0, 0.25],
            [0, 1, 0, 0],
            [0.25, 0.125, 0, 0],
            [0, 0.25, 1, 0],
            [1, 0, 0.5, 0],
            [0, 0.25, 0, 0],
            [1, 0, 0, 0],
        ]
    )
    taken = np.eye(4)[np.array([1, 2, 3, 2, 4, 3, 1, 2, 1, 2]) - 1]
    wanted = np.linalg.solve(around.T @ around + 2.0 * np.eye(4), around.T @ taken)
    found = fitted.learned.weights.toarray()[1:, 1:]
    # none to an item itself, and none below zero
    np.fill_diagonal(wanted, 0)
    np.fill_diagonal(found, 0)
    np.testing.assert_allclose(found, np.maximum(wanted, 0), atol=1e-6)


@pytest.mark.parametrize("most", [1, 7, 40, 1000])
def test_blocks_of_any_size_rank_much_like_the_whole(most: int) -> None:
    world = groups()
    whole = LinearItems(most_in_block=1000).fit(world.shop).scores(world.users)

    cut = LinearItems(most_in_block=most).fit(world.shop).scores(world.users)

    alike = [np.corrcoef(one[1:], other[1:])[0, 1] for one, other in zip(whole, cut, strict=True)]
    assert np.mean(alike) > 0.95


def test_a_block_that_cannot_be_inverted_is_told() -> None:
    """Nothing came after item 2: without regularisation nothing says what it speaks for."""
    shop = Shop(3, histories([[1, 2]]))

    with pytest.raises(ConfigError, match=r"linear_items: a block of 2 items .* regularisation=0;"):
        LinearItems(regularisation=0.0, later=0.0).fit(shop)


def test_items_that_nobody_had_cost_nothing_and_change_nothing() -> None:
    """With a million of them in the equations a fit would take hours."""
    sold = histories([[1, 2, 3], [2, 4], [3, 1, 2]])
    few = LinearItems().fit(Shop(4, sold)).learned.weights

    many = LinearItems().fit(Shop(1_000_000, sold)).learned.weights

    assert many.shape == (1_000_001, 1_000_001)
    np.testing.assert_array_equal(many[:5, :5].toarray(), few.toarray())
    assert many.nnz == few.nnz > 0


def test_without_two_events_of_anybody_all_weights_are_zero() -> None:
    assert LinearItems().fit(Shop(3, histories([[1], []]))).learned.weights.nnz == 0


def test_no_more_weights_are_kept_than_asked_for() -> None:
    fitted = LinearItems(kept=3).fit(groups().shop)

    assert np.diff(fitted.learned.weights.indptr).max() == 3
