"""Parts of what was measured: who is in them, which targets they have, and that too few say so."""

from __future__ import annotations

from datetime import date

import numpy as np

from recsys.evaluation.block import People
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.measured import Measured
from recsys.evaluation.rows import Row, slice_rows
from recsys.evaluation.slices import COLD, Part, Sliced
from recsys.evaluation.tally import PRECISION
from tests.evaluation.measured import block, measured, people

NUM_ITEMS = 20
IN_PLACE_2 = round(PRECISION / np.log2(3)) / PRECISION
"""NDCG of a single target that is in the second place, as it is added up."""


def facts(price: dict[int, float] | None = None) -> ItemFacts:
    """Items 1 to 20: item 1 has 20 buyers, item 20 has one."""
    nums = np.arange(NUM_ITEMS + 1)
    names = tuple(f"i{num}" for num in nums)
    price_N = np.array([(price or {}).get(num, np.nan) for num in nums.tolist()])
    return ItemFacts(names, names, np.where(nums > 0, NUM_ITEMS + 1 - nums, 0), price_N)


def sliced(whom: People, blend: list[list[int]], items: ItemFacts | None = None) -> Sliced:
    names = {"blend": blend, "popularity": [[1, 2, 3]] * len(whom)}
    return measured(block(whom, names), num_items=NUM_ITEMS, items=items or facts()).sliced


def ndcg(found: Sliced, slice_: str, part: str) -> tuple[float, int]:
    """Of the blend, and of how many users."""
    estimate = found.estimate("blend", Part(slice_, part), "ndcg")
    return estimate.value, estimate.num_users


def test_users_are_told_apart_by_history_and_segment() -> None:
    whom = people(
        [1], [1], [1], [1],
        num_events=[1, 4, 5, 200], segments=["north", "north", "", "south"],
    )  # fmt: skip

    found = sliced(whom, [[1], [9], [1], [9, 1]])

    assert ndcg(found, "history_length", "1-4") == (0.5, 2)
    assert ndcg(found, "history_length", "5-19") == (1, 1)
    assert ndcg(found, "history_length", "100+") == (IN_PLACE_2, 1)
    assert ndcg(found, "segment", "north") == (0.5, 2)
    assert ndcg(found, "segment", "unknown") == (1, 1)
    assert Part("history_length", "20-99") not in found.parts  # nobody is


def test_a_segment_that_is_called_as_we_call_the_rest_is_a_part_of_its_own() -> None:
    segments = [*["unknown"] * 3, "", *["all others"] * 2, *[f"s{n:02}" for n in range(20)]]
    right = [*[[1]] * 3, [9], [1], [9], *[[1]] * 20]

    found = sliced(people(*[[1]] * len(segments), segments=segments), right)

    assert ndcg(found, "segment", "unknown") == (1, 3)
    assert ndcg(found, "segment", "(unknown)") == (0, 1)
    assert ndcg(found, "segment", "all others") == (0.5, 2)
    assert ndcg(found, "segment", "(all others)") == (1, 3)


def test_beyond_twenty_segments_the_rest_share_a_part() -> None:
    segments = [f"s{n:02}" for n in range(22)] + ["s21"]  # two of s21, one of each other

    found = sliced(people(*[[1]] * 23, segments=segments), [[1]] * 23)

    parts = {part.part for part in found.parts if part.slice == "segment"}
    assert parts == {"s21", *segments[:19], "all others"}
    assert ndcg(found, "segment", "all others") == (1, 2)


def test_a_user_counts_in_each_part_with_the_targets_that_are_in_it() -> None:
    """Item 1 is of the first decile, with item 2; item 20 of the tenth. The blend finds 20 alone, in place 2."""
    found = sliced(people([1, 20]), [[9, 20]])

    assert ndcg(found, "popularity_decile", "1") == (0, 1)
    assert ndcg(found, "popularity_decile", "10") == (IN_PLACE_2, 1)
    assert found.estimate("blend", Part("popularity_decile", "10"), "recall").value == 1
    assert Part("popularity_decile", "5") not in found.parts
    assert found.gain("blend", "popularity", Part("popularity_decile", "1")).value == -1


def test_cold_targets_are_counted_and_nobody_finds_them() -> None:
    found = sliced(people([1], [2], cold={1: 3}), [[1], [2]])

    assert ndcg(found, *COLD) == (0, 1)
    assert ndcg(found, "vocabulary", "known") == (1, 2)
    assert found.num_targets[found.parts.index(COLD)] == 3
    # In the whole they stay in the denominator: the second user's list could hold one of four.
    assert found.estimate("blend", Part("history_length", "1-4"), "recall").value == (1 + 1 / 4) / 2


def test_prices_are_told_apart_by_fifths_of_the_catalogue() -> None:
    price = {num: float(num) for num in range(1, 11)}

    found = sliced(people([1, 2, 3, 15]), [[1, 15]], facts(price))

    parts = {part.part: n for part, n in zip(found.parts, found.num_targets, strict=True)
             if part.slice == "price_fifth"}  # fmt: skip
    assert parts == {"1": 2, "2": 1, "unknown": 1}
    assert ndcg(found, "price_fifth", "unknown")[0] == IN_PLACE_2


def test_every_target_is_in_one_part_of_each_slice() -> None:
    whom = people([1, 5, 20], [3], [7, 8], cold={0: 2, 2: 1})
    found = sliced(whom, [[1], [2], [3]], facts({1: 2.0, 5: 3.0}))

    totals: dict[str, int] = {}
    for part, count in zip(found.parts, found.num_targets, strict=True):
        totals[part.slice] = totals.get(part.slice, 0) + count

    known, cold = 6, 3
    assert totals == {
        "history_length": known + cold, "segment": known + cold, "vocabulary": known + cold,
        "popularity_decile": known, "price_fifth": known,
    }  # fmt: skip


def test_too_few_users_are_counted_and_not_measured() -> None:
    whom = people([1], [1], [1], segments=["north", "north", "south"])
    lists = {"blend": [[1]] * 3, "popularity": [[2]] * 3}
    found = measured(block(whom, lists), num_items=NUM_ITEMS, items=facts())

    rows = rows_of(found, least_users=2)

    north = rows["blend", "north", "ndcg_above_popularity"]
    assert (north["value"], north["num_users"], north["enough"]) == (1, 2, True)
    south = rows["blend", "south", "ndcg"]
    assert (south["value"], south["low"], south["num_users"], south["enough"]) == (None, None, 1, False)  # fmt: skip


def rows_of(found: Measured, *, least_users: int) -> dict[tuple[str, str, str], Row]:
    rows = slice_rows(
        found, date(2024, 6, 29),
        names=("blend", "popularity"), other="popularity", least_users=least_users,
    )  # fmt: skip
    return {(row["recommender"], row["part"], row["metric"]): row for row in rows}


def test_nobody_measured_has_no_parts() -> None:
    assert sliced(people(), []).parts == ()
