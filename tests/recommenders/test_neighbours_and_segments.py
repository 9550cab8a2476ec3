"""User-user and popularity by segment, by literal rows."""

from __future__ import annotations

import numpy as np

from recsys.recommenders import Shop
from recsys.recommenders.popularity import SegmentPopularity, Trending
from recsys.recommenders.user_user import UserUser
from tests.recommenders.worlds import histories, unknown


def test_a_fitted_user_is_not_his_own_neighbour() -> None:
    shop = Shop(5, histories([[1, 2, 3], [1, 2, 4], [5]]))

    scores = UserUser().fit(shop).scores(shop.everyone())

    assert scores[0, 4] > scores[0, 3]  # 3 is his alone
    assert scores[1, 3] > scores[1, 4]


def test_what_lies_after_a_shared_item_counts_more_than_what_lies_before() -> None:
    shop = Shop(4, histories([[2, 1, 3], [2, 1, 3], [4]]))

    [scores] = UserUser().fit(shop).scores(unknown(histories([[1]])))

    assert scores[3] > scores[2] > scores[4]


def test_only_the_most_similar_users_speak() -> None:
    shop = Shop(6, histories([[1, 2, 3, 4], [1, 5], [6]]))

    [scores] = UserUser(neighbours=1).fit(shop).scores(unknown(histories([[1, 2, 3]])))

    assert scores[4] > scores[5]
    assert scores[5] == scores[6]  # no more than its share of popularity


def test_a_small_segment_leans_on_the_whole_shop() -> None:
    many = [[1, 1, 2]] * 300
    rows = histories([*many, [3, 3, 3, 3]])
    segment = np.array([1] * 300 + [2])
    shop = Shop(3, rows, segments=segment)
    asked = unknown(histories([[]]), np.array([2]))

    [leaning] = SegmentPopularity(lean=200).fit(shop).scores(asked)
    [trusting] = SegmentPopularity(lean=1).fit(shop).scores(asked)

    assert leaning[1:].argmax() == 0
    assert trusting[1:].argmax() == 2


def test_a_user_without_segment_gets_the_whole_shops_best() -> None:
    shop = Shop(2, histories([[1], [2], [2]]), segments=np.array([1, 2, 2]))

    scores = (
        SegmentPopularity(lean=0.1).fit(shop).scores(unknown(histories([[], []]), np.array([0, 9])))
    )

    assert scores[:, 1:].argmax(axis=1).tolist() == [1, 1]


def test_an_event_counts_half_after_its_half_life() -> None:
    shop = Shop(2, histories([[1, 2]], [[0.0, 10.0]]), as_of=10.0)

    [scores] = Trending(half_life_days=10).fit(shop).scores(unknown(histories([[]], [[]])))

    assert scores[1:].tolist() == [0.5, 1.0]
