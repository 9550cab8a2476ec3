"""Splits: no target before its cut-off, nothing known from it on, and nothing lost."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ConfigError
from recsys.evaluation.splits import (
    Split,
    Window,
    leave_one_out,
    rolling_origin,
)
from recsys.recommenders.shop import Histories

RUN_DATE = date(2024, 6, 29)
DAY = timedelta(days=1)


def histories(*rows: list[tuple[int, float]]) -> Histories:
    """(item, day) of each user, oldest first."""
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    flat = [event for row in rows for event in row]
    return Histories(
        offsets,
        np.array([num for num, _ in flat], dtype=np.int32),
        np.array([day for _, day in flat], dtype=np.float64),
    )


def events(found: Histories) -> list[tuple[int, int, float]]:
    assert found.days is not None
    return list(
        zip(found.rows.tolist(), found.item_nums.tolist(), found.days.tolist(), strict=True)
    )


def items(found: Histories) -> list[list[int]]:
    return [found.take(np.array([u])).item_nums.tolist() for u in range(len(found))]


shops = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9).map(float)), max_size=6).map(
        lambda row: sorted(row, key=lambda event: event[1])
    ),
    max_size=5,
).map(lambda rows: histories(*rows))


def test_the_global_split_is_the_newest_whole_days() -> None:
    [window] = rolling_origin(RUN_DATE, days=28, cut_offs=1)

    assert window == Window(date(2024, 6, 1), RUN_DATE)
    assert window.is_known(window.cut_off - DAY) and not window.is_target(window.cut_off - DAY)
    assert window.is_target(window.cut_off) and not window.is_known(window.cut_off)
    assert window.is_target(RUN_DATE - DAY) and not window.is_target(RUN_DATE)


def test_rolling_origin_goes_back_a_window_at_a_time() -> None:
    found = rolling_origin(RUN_DATE, days=7, cut_offs=3)

    assert [str(window.cut_off) for window in found] == ["2024-06-08", "2024-06-15", "2024-06-22"]
    assert [window.end for window in found] == [w.cut_off for w in found[1:]] + [RUN_DATE]


def test_rolling_origin_with_a_step_of_its_own() -> None:
    found = rolling_origin(RUN_DATE, days=28, cut_offs=2, step_days=7)

    assert [str(window.cut_off) for window in found] == ["2024-05-25", "2024-06-01"]
    assert {window.days for window in found} == {28}


@given(days=st.integers(1, 40), cut_offs=st.integers(1, 6), step=st.none() | st.integers(1, 60))
def test_every_window_has_its_days_and_the_last_ends_with_the_data(
    days: int, cut_offs: int, step: int | None
) -> None:
    found = rolling_origin(RUN_DATE, days=days, cut_offs=cut_offs, step_days=step)

    assert len(found) == cut_offs
    assert {window.days for window in found} == {days}
    assert found[-1].end == RUN_DATE
    gaps = {(b.cut_off - a.cut_off).days for a, b in pairwise(found)}
    assert gaps <= {step or days}
    if step is None:  # each day is the target of one window
        every = [window.cut_off + n * DAY for window in found for n in range(days)]
        assert every == [found[0].cut_off + n * DAY for n in range(days * cut_offs)]


def test_data_that_begin_too_late_are_told_how_many_cut_offs_fit() -> None:
    first = RUN_DATE - 22 * DAY
    assert len(rolling_origin(RUN_DATE, days=7, cut_offs=3, first_day=first)) == 3

    with pytest.raises(ConfigError, match=r"4 cut-offs of 7 days.*at most 3 cut-offs fit"):
        rolling_origin(RUN_DATE, days=7, cut_offs=4, first_day=first)
    with pytest.raises(ConfigError, match="at most 2 cut-offs fit"):
        rolling_origin(RUN_DATE, days=7, cut_offs=3, first_day=first + DAY)


@pytest.mark.parametrize("name", ["days", "cut_offs", "step_days"])
def test_no_number_is_less_than_one(name: str) -> None:
    asked: dict[str, Any] = {"days": 7, "cut_offs": 2, "step_days": 7, name: 0}
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
        rolling_origin(RUN_DATE, **asked)
    with pytest.raises(ConfigError, match="has no day"):
        Window(RUN_DATE, RUN_DATE)


def test_leave_one_out_splits_off_the_newest_of_each_user() -> None:
    shop = histories([(1, 0), (2, 1), (3, 2)], [(4, 0)], [])

    last, before = leave_one_out(shop), leave_one_out(shop, newer=1)

    assert (items(last.known), items(last.later)) == ([[1, 2], [], []], [[3], [4], []])
    assert (items(before.known), items(before.later)) == ([[1], [], []], [[2], [], []])


@given(shops, st.integers(0, 3))
def test_leave_one_out_loses_nothing_and_takes_one(shop: Histories, newer: int) -> None:
    split = leave_one_out(shop, newer=newer)

    for user, (row, known, later) in enumerate(
        zip(items(shop), items(split.known), items(split.later), strict=True)
    ):
        newest = row[len(row) - min(newer, len(row)) :]
        assert known + later + newest == row, user
        assert len(later) == (len(row) > newer)


def test_targets_are_distinct_and_unknown_items_stay_in_the_count() -> None:
    known = histories([(3, 0)], [], [])
    later = histories([(7, 1), (2, 2), (7, 3), (0, 4), (0, 5)], [], [(0, 1)])

    targets = Split(known, later).targets()

    assert targets.offsets.tolist() == [0, 2, 2, 2]
    assert targets.item_nums.tolist() == [2, 7]
    assert targets.counts.tolist() == [4, 0, 1]
