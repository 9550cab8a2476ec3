"""Which place predicts which event."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.models.places import prediction_places


def pairs(
    items: list[int], ages: list[float], targets: list[int], *, quiet_days: float
) -> list[tuple[int, int]]:
    """(place, item it predicts) of one example."""
    found = prediction_places(
        torch.tensor([items]), torch.tensor([ages]), torch.tensor([targets]), quiet_days=quiet_days
    )
    assert (found.example_Q == 0).all()
    places = found.place_Q[found.query_of_P].tolist()
    return list(zip(places, found.item_nums_P.tolist(), strict=True))


def test_an_event_is_predicted_from_the_place_before_it() -> None:
    items = [0, 5, 6, 7]  # one place of padding
    ages = [0.0, 3.0, 2.0, 1.0]
    # 5 is the first event: nothing real stands before it.
    assert pairs(items, ages, [0, 1, 1, 1], quiet_days=0.0) == [(1, 6), (2, 7)]


def test_lines_of_one_invoice_are_predicted_from_the_visit_before() -> None:
    items = [5, 6, 7, 8]
    ages = [9.0, 9.0, 2.0, 2.0]  # two invoices of two lines
    assert pairs(items, ages, [1, 1, 1, 1], quiet_days=0.04) == [(1, 7), (1, 8)]


def test_only_events_marked_as_targets_are_predicted() -> None:
    items, ages = [5, 6, 7], [3.0, 2.0, 1.0]
    assert pairs(items, ages, [0, 0, 1], quiet_days=0.0) == [(1, 7)]


def test_a_user_of_one_visit_predicts_nothing() -> None:
    assert pairs([0, 5, 6], [0.0, 1.0, 1.0], [0, 1, 1], quiet_days=0.04) == []


@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    quiet_days=st.sampled_from([0.0, 0.5, 2.0]),
    data=st.data(),
)
def test_agrees_with_a_search_place_by_place(
    lengths: list[int], quiet_days: float, data: st.DataObject
) -> None:
    width = 8
    items = torch.zeros((len(lengths), width), dtype=torch.int64)
    ages = torch.zeros((len(lengths), width))
    targets = torch.zeros((len(lengths), width), dtype=torch.bool)
    for row, length in enumerate(lengths):
        # Halves are exact in float32: being just so much older is then no matter of rounding.
        drawn = data.draw(st.lists(st.integers(0, 12), min_size=length, max_size=length))
        items[row, width - length :] = torch.arange(1, length + 1)
        ages[row, width - length :] = torch.tensor(sorted(drawn, reverse=True)) / 2
        flags = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
        targets[row, width - length :] = torch.tensor(flags)
    expected = set()
    for row in range(len(lengths)):
        for place in range(width):
            older = [
                q
                for q in range(place)
                if items[row, q] != 0
                and (
                    q == place - 1
                    if quiet_days == 0
                    else ages[row, q] >= ages[row, place] + quiet_days
                )
            ]
            if targets[row, place] and older:
                expected.add((row, max(older), int(items[row, place])))
    found = prediction_places(items, ages, targets, quiet_days=quiet_days)
    rows, places = found.example_Q[found.query_of_P], found.place_Q[found.query_of_P]
    actual = list(zip(rows.tolist(), places.tolist(), found.item_nums_P.tolist(), strict=True))
    assert len(actual) == len(set(actual))
    assert set(actual) == expected
