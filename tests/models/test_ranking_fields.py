"""Which rows of which tables a user and a candidate ask for."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.errors import ContractError
from recsys.models.ranking_fields import (
    FIELDS,
    Attributes,
    candidate_numbers,
    candidate_rows,
    clock,
    crossed,
    moments_of,
    numbers_of,
    price_buckets,
    rows_of_cross,
    user_rows,
)

AS_OF = date(2024, 6, 1)  # a Saturday


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def attributes() -> Attributes:
    """Three users, four items; item 4 has neither category nor price."""
    return Attributes(
        segment_num_U=np.array([0, 1, 2, 0], np.int32),
        category_num_I=np.array([0, 1, 2, 2, 0], np.int32),
        price_bucket_I=np.array([0, 1, 5, 10, 0], np.int32),
        num_events_I=np.array([0, 7, 1, 0, 3]),
        is_cut_U=np.array([False, False, True, False]),
        segments=("north", "south"),
        categories=("cups", "plates"),
    )


def test_hour_and_weekday_come_from_the_age_at_the_shop_s_midnight() -> None:
    ages = np.array([0.25, 1.0, 1.5, 7.0, 0.0, 1 / 1440], dtype=np.float32)
    hour, weekday = clock(ages, AS_OF, real_B=np.array([1, 1, 1, 1, 0, 1]) > 0)
    # Friday 18:00, Friday 0:00, Thursday 12:00, Saturday a week ago at 0:00, padding, Friday 23:59
    assert hour.tolist() == [19, 1, 13, 1, 0, 24]
    assert weekday.tolist() == [5, 5, 4, 6, 0, 5]


def test_events_since_the_full_run_have_an_hour_and_a_weekday() -> None:
    ages = np.array([0.0, -0.25, -1.5, -7.0], dtype=np.float32)
    hour, weekday = clock(ages, AS_OF, real_B=np.ones(4, np.bool_))
    # Saturday 0:00, Saturday 6:00, Sunday 12:00, Saturday in a week at 0:00
    assert hour.tolist() == [1, 7, 13, 1]
    assert weekday.tolist() == [6, 6, 7, 6]
    moments = moments_of(
        attributes(), ints(1, 1), np.array([[2, 3], [0, 0]]), np.array([[0.5, -0.25], [0, 0]], np.float32), AS_OF
    )  # fmt: skip
    assert (moments.hour_B.tolist(), moments.weekday_B.tolist()) == ([7, 0], [6, 0])
    assert moments.days_BH[0].tolist() == [0.75, 0]


@given(st.integers(1, 400 * 24 * 60))
def test_hour_and_weekday_are_those_of_the_calendar(minutes: int) -> None:
    moment = datetime(2024, 6, 1) - timedelta(minutes=minutes)
    # Half a minute less than it was, so that float32 does not fall on the other side of the hour.
    age = np.array([(minutes - 0.5) / 1440], dtype=np.float32)
    hour, weekday = clock(age, AS_OF, real_B=np.array([True]))
    assert (int(hour[0]), int(weekday[0])) == (moment.hour + 1, moment.isoweekday())


def test_a_cross_of_few_pairs_has_a_row_for_each() -> None:
    first, second = np.meshgrid(np.arange(4), np.arange(6), indexing="ij")
    rows = crossed(first, second, (3, 5), 1000)
    assert rows_of_cross((3, 5), 1000) == 16
    assert (rows[0] == 0).all() and (rows[:, 0] == 0).all()
    assert sorted(rows[1:, 1:].flatten().tolist()) == list(range(1, 16))


def test_a_cross_of_many_pairs_shares_rows_by_a_hash_that_never_changes() -> None:
    # What a model learned lies in these rows: another hash would make nonsense of it.
    first, second = ints(1, 2, 1, 70_000, 0, 9), ints(1, 1, 2, 99_999, 5, 0)
    rows = crossed(first, second, (100_000, 100_000), 1 << 18)
    assert rows.tolist() == [_splitmix(1, 1), _splitmix(2, 1), _splitmix(1, 2),
                             _splitmix(70_000, 99_999), 0, 0]  # fmt: skip
    assert rows_of_cross((100_000, 100_000), 1 << 18) == 1 << 18
    many = crossed(np.arange(1, 501)[:, None], np.arange(1, 501), (100_000, 100_000), 1001)
    counts = np.bincount(many.flatten(), minlength=1001)[1:]
    assert 150 < counts.min() <= counts.max() < 360  # 250 +- 5 standard deviations and a bit


def _splitmix(first: int, second: int) -> int:
    """The documented hash in Python's own whole numbers."""
    word = (1 << 64) - 1
    z = ((first << 32 | second) + 0x9E3779B97F4A7C15) & word
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
    return 1 + (z ^ (z >> 31)) % ((1 << 18) - 1)


def test_the_rows_of_two_users_and_their_candidates() -> None:
    known = attributes()
    moments = moments_of(
        known, ints(1, 0), np.array([[0, 2, 3], [0, 0, 0]]),
        np.array([[0, 8.75, 0.5], [0, 0, 0]], np.float32), AS_OF,
    )  # fmt: skip
    of_users = user_rows(moments, history_bag=2)
    assert {name: ids.tolist() for name, ids in of_users.items()} == {
        "user": [1, 0], "history": [[2, 3], [0, 0]], "segment": [1, 0], "hour": [13, 0],
        "weekday": [5, 0],
    }  # fmt: skip
    found = candidate_rows(known, moments, np.array([[1, 3, 2], [2, 4, 0]]), cross_rows=1000)
    assert {name: ids.tolist() for name, ids in found.items()} == {
        "item": [[1, 3, 2], [2, 4, 0]],
        "category": [[1, 2, 2], [2, 0, 0]],
        "price_bucket": [[1, 10, 5], [5, 0, 0]],
        "segment_category": [[1, 2, 2], [0, 0, 0]],  # an unknown segment crosses with nothing
        "weekday_category": [[9, 10, 10], [0, 0, 0]],
        "last_item_item": [[2 * 4 + 1, 2 * 4 + 3, 2 * 4 + 2], [0, 0, 0]],
        "times_in_history": [[0, 1, 1], [0, 0, 0]],
        "days_since_in_history": [[0, 1, 4], [0, 0, 0]],  # 0 days; 8.25 days: [7, 15)
        "category_times_in_history": [[0, 2, 2], [0, 0, 0]],  # both of the history are plates
    }
    assert candidate_numbers(known, np.array([[1, 3]]))[0, :, 0] == pytest.approx([np.log(8), 0.0])
    # In training the positive's own event is not among those that are counted: item 2 has no other.
    items = np.array([[2, 2], [3, 1]])
    counted = candidate_numbers(known, items, first_is_counted=True)[:, :, 0]
    assert counted == pytest.approx(np.log1p(np.array([[0, 1], [0, 7]])))
    assert known.num_events_I[2] == 1
    rows = known.table_rows(1000)
    assert set(rows) == set(FIELDS)
    for name, ids in {**of_users, **found}.items():
        assert ids.max() < rows[name], name


def test_what_is_newer_than_the_model_is_unknown_to_it() -> None:
    found = moments_of(
        attributes(), ints(2, 4), np.array([[4, 5], [1, 2]]), np.ones((2, 2), np.float32), AS_OF
    )
    assert (found.user_num_B.tolist(), found.segment_num_B.tolist()) == ([2, 0], [2, 0])
    assert (found.hour_B > 0).all()  # of an event there was, whatever the item
    assert found.history_BH.tolist() == [[4, 0], [1, 2]]
    assert found.last_item_B.tolist() == [0, 2]


def test_names_and_prices_become_the_numbers_that_training_gave_them() -> None:
    assert numbers_of(("cups", "plates"), ["plates", None, "bowls", "cups", ""]).tolist() == [
        2, 0, 0, 1, 0,
    ]  # fmt: skip
    edges = np.array([2.0, 4.0])
    assert price_buckets(edges, np.array([1.0, 2.0, 3.9, 4.0, np.nan])).tolist() == [1, 2, 2, 3, 0]


def test_attributes_go_to_a_file_and_back_and_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **attributes().arrays())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as content:
        arrays = dict(content)
    found = Attributes.of(arrays)
    assert (found.segments, found.categories) == (("north", "south"), ("cups", "plates"))
    assert (found.num_items, found.num_users) == (4, 3)
    for name, array in attributes().arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array)
    with pytest.raises(ContractError, match="no num_events_I"):
        Attributes.of({name: array for name, array in arrays.items() if name != "num_events_I"})
    with pytest.raises(ContractError, match=r"attributes of \[4, 5\] items"):
        Attributes.of({**arrays, "num_events_I": arrays["num_events_I"][:-1]})
    with pytest.raises(ContractError, match=r"attributes of \[3, 4\] users"):
        Attributes.of({**arrays, "is_cut_U": arrays["is_cut_U"][:-1]})
