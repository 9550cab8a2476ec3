"""How histories are weighed, by literal rows."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.recommenders.histories import both_ways, by_recency, known, lateness, times
from tests.recommenders.worlds import histories


def test_unknown_items_take_no_place_in_the_order() -> None:
    events = known(histories([[1, 0, 2], [0], [9, 1]], [[1.0, 2.0, 3.0], [4.0], [5.0, 6.0]]), 2)

    assert events.offsets.tolist() == [0, 2, 2, 3]
    assert events.item_nums.tolist() == [1, 2, 1]
    assert events.days is not None
    assert events.days.tolist() == [1.0, 3.0, 6.0]


def test_the_newest_event_is_nothing_where_there_is_none() -> None:
    assert histories([[1, 2, 3], [2], []]).newest().tolist() == [3, 2, 0]


def test_each_two_events_of_a_user_are_near_both_ways_once() -> None:
    events = histories([[7, 8, 9], [4], [5, 6]])  # at the places 0 to 5

    starts, ends, weights = both_ways(events, most=2, fade=0.5, backwards=0.25)

    steps = dict(zip(zip(starts.tolist(), ends.tolist(), strict=True), weights, strict=True))
    assert len(steps) == len(weights)
    assert steps == {
        (0, 1): 1, (1, 2): 1, (0, 2): 0.5, (4, 5): 1,
        (1, 0): 0.25, (2, 1): 0.25, (2, 0): 0.125, (5, 4): 0.25,
    }  # fmt: skip


def test_an_event_fades_with_its_place_and_repeated_ones_add_up() -> None:
    weights = by_recency(histories([[1, 2, 1]]), 3, decay=0.5).toarray()

    assert weights.tolist() == [[0, 1.25, 0.5]]


def test_without_decay_the_newest_event_alone_is_left() -> None:
    assert by_recency(histories([[1, 2]]), 3, decay=0.0).toarray().tolist() == [[0, 0, 1]]
    assert by_recency(histories([[1, 2, 2]]), 3, 0.5, newest=2).toarray().tolist() == [[0, 0, 1.5]]


def test_items_at_the_end_of_histories_are_late() -> None:
    late = lateness(histories([[1, 3, 2]] * 40), 5, power=1.0)

    assert late[2] > late[3] > late[1]
    assert late[2] > 1 > late[1]
    assert late[4] == 1  # never bought: as all
    np.testing.assert_array_equal(lateness(histories([[1, 3, 2]]), 5, power=0.0), np.ones(5))


@pytest.mark.parametrize("rows", [1, 2, 7, 33])
def test_a_product_does_not_depend_on_the_rows_beside_it(rows: int) -> None:
    rng = np.random.default_rng(1)
    users, items = rng.normal(size=(64, 24)), rng.normal(size=(24, 101))

    parts = [times(users[start : start + rows], items) for start in range(0, 64, rows)]

    np.testing.assert_array_equal(np.concatenate(parts), times(users, items))
