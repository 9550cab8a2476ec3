"""What lists are like apart from being right, against figures worked out by hand and slow definitions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ContractError
from recsys.evaluation.list_quality import (
    Floats,
    Ints,
    category_diversity,
    coverage,
    gini,
    novelty,
    popularities,
    repeat_share,
    times_shown,
    vector_diversity,
)
from recsys.recommenders.shop import Histories, ItemNums

ITEMS = 8
ALL = np.arange(ITEMS + 1) > 0


def lists(*rows: list[int], places: int = 4) -> ItemNums:
    return np.array([[*row, *[0] * (places - len(row))] for row in rows], dtype=np.int32).reshape(
        -1, places
    )


def shown(*rows: list[int]) -> Ints:
    return times_shown(lists(*rows), ITEMS + 1)


def histories(*rows: list[int]) -> Histories:
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    return Histories(offsets, np.array([num for row in rows for num in row], dtype=np.int32))


def test_coverage_is_the_share_of_what_is_allowed() -> None:
    allowed = ALL.copy()
    allowed[[7, 8]] = False

    assert coverage(shown([1, 2], [2, 3], [7]), allowed) == 3 / 6
    assert coverage(shown([]), allowed) == 0
    assert np.isnan(coverage(shown([]), np.zeros(ITEMS + 1, dtype=bool)))


def test_gini_is_0_where_all_have_alike_and_1_where_one_has_all() -> None:
    assert gini(shown([1, 2, 3, 4], [5, 6, 7, 8]), ALL) == 0
    assert gini(shown([3], [3], [3]), ALL) == 1
    assert np.isnan(gini(shown([]), ALL))


def test_gini_of_one_two_and_three_places() -> None:
    """Of 3 items: (-2 * 1 + 0 * 2 + 2 * 3) / (6 places * 2)."""
    three = np.arange(ITEMS + 1) % 4 == np.arange(ITEMS + 1)

    assert gini(shown([1, 2, 3], [2, 3], [3]), three & ALL) == pytest.approx(1 / 3)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=30))
def test_gini_is_that_of_the_sorted_definition(times: list[int]) -> None:
    found = gini(np.array(times), np.ones(len(times), dtype=bool))

    ascending, items = sorted(times), len(times)
    weighted = sum((2 * i - items - 1) * one for i, one in enumerate(ascending, start=1))
    expected = weighted / (sum(times) * (items - 1)) if sum(times) else np.nan
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_category_diversity_is_the_share_of_pairs_that_differ() -> None:
    #                      -  1  2  3  4  5  6  7  8
    category = np.array([9, 5, 5, 6, 6, 7, 0, 0, 5])

    found = category_diversity(
        lists(
            [1, 2, 8],  # one category
            [1, 3, 5],  # three
            [1, 2, 3, 4],  # two pairs of six are alike
            [1, 6, 7, 3],  # two have no category: one pair, which differs
            [1, 6],  # no pair
            [],
        ),
        category,
    )

    np.testing.assert_allclose(found, [0, 1, 4 / 6, 1, np.nan, np.nan])


def test_vector_diversity_is_the_mean_cosine_distance() -> None:
    vectors = np.array([[9, 9], [1, 0], [5, 0], [0, 2], [-3, 0], [0, 0]], dtype=np.float32)

    found = vector_diversity(
        lists([1, 2], [1, 3], [1, 4], [1, 2, 3], [1, 5], [1, 2, 5]),
        vectors,
    )

    np.testing.assert_allclose(found, [0, 1, 2, 2 / 3, np.nan, 0], atol=1e-12)


some_lists = st.lists(
    st.lists(st.integers(1, ITEMS), max_size=4, unique=True), min_size=1, max_size=6
)


@given(some_lists, st.integers(0, 100))
def test_diversities_are_those_of_the_pairs_one_by_one(rows: list[list[int]], seed: int) -> None:
    draw = np.random.default_rng(seed)
    vectors, category = draw.normal(size=(ITEMS + 1, 3)), draw.integers(0, 3, ITEMS + 1)
    units = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    apart, distances = [], []
    for row in rows:
        named = [category[num] for num in row if category[num]]
        pairs = [a != b for a, b in combinations(named, 2)]
        apart.append(np.mean(pairs) if pairs else np.nan)
        far = [1 - units[a] @ units[b] for a, b in combinations(row, 2)]
        distances.append(np.mean(far) if far else np.nan)

    np.testing.assert_allclose(category_diversity(lists(*rows), category), apart)
    np.testing.assert_allclose(vector_diversity(lists(*rows), vectors), distances, atol=1e-12)


def test_novelty_is_the_mean_of_bits() -> None:
    #                       -  1  2  3  4  5  6  7  8
    num_users = np.array([0, 8, 4, 1, 0, 0, 0, 0, 0])

    found = novelty(lists([1], [2, 3], [4], []), num_users, 8)

    np.testing.assert_allclose(found, [0, (1 + 3) / 2, 3, np.nan])  # nobody had 4: as if one had
    with pytest.raises(ContractError, match="item 1 was had by 8 of 7 users"):
        novelty(lists([1]), num_users, 7)


def test_popularities_are_of_lists_and_of_what_the_same_users_had() -> None:
    popularity = np.array([0, 0.4, 0.2, 0.1, 0, 0, 0, 0, 0])
    had = histories([3, 3, 2], [2], [], [1])

    found = popularities(lists([2, 3, 3], [1], [1], []), had, popularity)

    # the third has no history, the fourth no list
    expected = [[0.4 / 3, 0.4 / 3], [0.4, 0.2], [np.nan] * 2, [np.nan] * 2]
    np.testing.assert_allclose(found, expected)


def test_repeat_share_is_of_the_places_that_are_filled() -> None:
    found = repeat_share(lists([1, 2], [1, 2, 3, 4], [5], []), histories([1], [4, 4, 2], [], [1]))

    np.testing.assert_allclose(found, [0.5, 0.5, 0, np.nan])


def test_items_and_users_must_be_those_of_the_shop() -> None:
    with pytest.raises(ContractError, match="item numbers 0 to 9, the catalogue has 1 to 8"):
        shown([9])
    with pytest.raises(ContractError, match="2 lists and 1 histories"):
        repeat_share(lists([1], [2]), histories([1]))


@given(some_lists, st.integers(0, 6), st.integers(0, 100))
def test_a_user_has_the_same_figures_in_any_company(
    rows: list[list[int]], cut: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    vectors, everybody = draw.normal(size=(ITEMS + 1, 5)), lists(*rows)
    parts = [part for part in (everybody[:cut], everybody[cut:]) if len(part)]

    figures: list[Callable[[ItemNums], Floats]] = [
        lambda some: vector_diversity(some, vectors),
        lambda some: category_diversity(some, np.arange(ITEMS + 1) % 3),
        lambda some: novelty(some, np.arange(ITEMS + 1), 9),
    ]
    for figure in figures:
        np.testing.assert_array_equal(
            np.concatenate([figure(part) for part in parts]), figure(everybody)
        )
