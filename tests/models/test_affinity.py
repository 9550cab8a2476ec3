"""What a history says of a candidate, counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.models.affinity import AFFINITY_TABLE_ROWS, affinity_rows

CATEGORIES = np.array([0, 1, 1, 2, 0], np.int32)  # of items 1 to 4; 4 has none


def of_one(history: list[int], days: list[float], item: int) -> dict[str, int]:
    found = affinity_rows(
        CATEGORIES, np.array([history]), np.array([days], np.float32), np.array([[item]])
    )
    return {name: int(ids[0, 0]) for name, ids in found.items()}


@pytest.mark.parametrize(
    ("item", "times", "days", "category"),
    [
        (1, 2, 3, 2),  # 40 and 5 days before: 5 counts; three of its category: [2, 4)
        (2, 1, 1, 2),  # the newest event
        (3, 0, 0, 0),
        (4, 1, 6, 0),  # 31 days
        (0, 0, 0, 0),  # an unknown item is not the padding of the history
    ],
)
def test_the_newest_time_counts_and_all_times_are_counted(
    item: int, times: int, days: int, category: int
) -> None:
    found = of_one([0, 1, 4, 1, 2], [0, 40, 31, 5, 0], item)
    assert found == {
        "times_in_history": times, "days_since_in_history": days, "category_times_in_history": category,
    }  # fmt: skip


def test_nothing_is_in_no_history() -> None:
    assert set(of_one([0, 0], [0, 0], 1).values()) == {0}
    none = affinity_rows(
        CATEGORIES, np.zeros((1, 0), int), np.zeros((1, 0), np.float32), np.array([[1]])
    )
    assert {int(ids[0, 0]) for ids in none.values()} == {0}


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60).map(sorted), st.floats(0, 1e6), st.integers(0, 4)
)  # fmt: skip
def test_every_number_is_a_row_of_its_table(history: list[int], days: float, item: int) -> None:
    found = of_one(history, [days] * len(history), item)
    assert all(0 <= row < AFFINITY_TABLE_ROWS[name] for name, row in found.items())
    assert (found["times_in_history"] > 0) == (found["days_since_in_history"] > 0)
