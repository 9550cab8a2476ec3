"""Stage 3: at most so many of a category or brand, and what it left out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.records import Recipe
from recsys.scoring.list_rules import CELLS, AtMost, longest_list, under_list_rules
from recsys.scoring.lists import Lists
from recsys.scoring.scorer import Entry, Rules, Scorer
from tests.scoring.worlds import kit_of, max_per, users_of

POPULARITY = Entry(Recipe(name="popularity", popularity=1.0))


def lists_of(rows: list[list[int]]) -> Lists:
    nums = np.array([num for row in rows for num in row], dtype=np.int32)
    scores = -np.arange(len(nums), dtype=np.float32)
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    return Lists(offsets, nums, scores, np.zeros(len(nums), dtype=np.int8))


def groups_of(*groups: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array([-1, *groups], dtype=np.int32)


def test_what_one_rule_keeps_out_uses_up_no_room_of_another() -> None:
    category, brand = groups_of(0, 0, 1, 1), groups_of(5, 5, 5, 6)
    rules = [AtMost(category, 1), AtMost(brand, 2)]

    found = under_list_rules(lists_of([[1, 2, 3, 4]]), rules, 4)

    # 2 is a second of category 0, so 3 is only the second of brand 5; 4 is a second of category 1.
    assert found.lists.item_nums.tolist() == [1, 3]
    assert found.left_out_BR.tolist() == [[2, 0]]


def test_an_item_that_two_rules_keep_out_counts_for_the_first() -> None:
    groups = groups_of(0, 0, 0)

    found = under_list_rules(lists_of([[1, 2, 3]]), [AtMost(groups, 1), AtMost(groups, 1)], 3)

    assert found.left_out_BR.tolist() == [[2, 0]]


def test_what_stands_behind_a_full_list_was_not_left_out() -> None:
    found = under_list_rules(lists_of([[1, 2, 3, 4], []]), [AtMost(groups_of(0, 0, 1, 1), 1)], 2)

    assert found.lists.item_nums.tolist() == [1, 3]
    assert found.left_out_BR.tolist() == [[1], [0]]


def test_items_without_a_group_are_not_limited() -> None:
    found = under_list_rules(lists_of([[3, 2, 1]]), [AtMost(groups_of(-1, -1, -1), 1)], 9)

    assert found.lists.item_nums.tolist() == [3, 2, 1]


def test_more_groups_than_are_laid_out_are_counted_all_the_same() -> None:
    far = CELLS  # of two users: more places to count at than there may be
    groups = groups_of(far, far, 0, -1, -1)

    found = under_list_rules(lists_of([[4, 1, 2, 5, 3], [2, 1, 3]]), [AtMost(groups, 1)], 9)

    assert found.lists.item_nums.tolist() == [4, 1, 5, 3, 2, 3]
    assert found.left_out_BR.tolist() == [[1], [1]]


def test_a_rule_under_which_no_list_gets_long_is_not_searched_for_in_vain() -> None:
    kit = kit_of(
        9, buyers=[list(range(9, 0, -1))], categories=[0, 0, 0, 0, 0, 0, 0, 1, -1], hidden=[8]
    )
    rules = Rules(max_per=(("category", 2),))

    assert longest_list(kit.allowed, [AtMost(kit.groups["category"], 2)]) == 3  # two of 0, and 9
    found = Scorer(kit, rules).limited(users_of([[]]), POPULARITY, 100)
    assert found.lists.item_nums.tolist() == [1, 2, 9]


@given(
    rows=st.lists(st.lists(st.integers(1, 12), unique=True), max_size=5),
    groups=st.lists(st.lists(st.integers(-1, 2), min_size=12, max_size=12), min_size=1, max_size=3),
    most=st.integers(1, 3),
    n=st.integers(1, 12),
)
def test_the_greedy_definition_holds(
    rows: list[list[int]], groups: list[list[int]], most: int, n: int
) -> None:
    rules = [AtMost(groups_of(*of), most) for of in groups]

    found = under_list_rules(lists_of(rows), rules, n)

    for b, row in enumerate(rows):
        taken: list[int] = []
        left_out = [0] * len(rules)
        for item in row:
            full = [
                rule.groups[item] >= 0
                and sum(rule.groups[other] == rule.groups[item] for other in taken) >= most
                for rule in rules
            ]
            if len(taken) == n:
                break
            if any(full):
                left_out[full.index(True)] += 1
            else:
                taken.append(item)
        start, stop = found.lists.offsets[b : b + 2]
        assert found.lists.item_nums[start:stop].tolist() == taken
        assert found.left_out_BR[b].tolist() == left_out


@given(
    categories=st.lists(st.integers(-1, 2), min_size=30, max_size=30),
    brands=st.lists(st.integers(-1, 2), min_size=30, max_size=30),
    limits=max_per,
    n=st.integers(1, 8),
)
def test_however_deep_the_scorer_looks_the_lists_and_counts_are_those_of_the_whole_catalogue(
    categories: list[int], brands: list[int], limits: tuple[tuple[str, int], ...], n: int
) -> None:
    kit = kit_of(30, buyers=[list(range(30, 0, -1))], categories=categories, brands=brands)
    users = users_of([[], [3]])

    found = Scorer(kit, Rules(max_per=limits), batch_users=1).limited(users, POPULARITY, n)

    rules = [AtMost(kit.groups[group], most) for group, most in limits]
    whole = Scorer(kit, Rules()).lists(users, POPULARITY, 30)
    wanted = under_list_rules(whole, rules, min(n, longest_list(kit.allowed, rules)))
    assert (
        wanted.lists.item_nums.tolist()
        == under_list_rules(whole, rules, n).lists.item_nums.tolist()
    )
    assert found.lists.item_nums.tolist() == wanted.lists.item_nums.tolist()
    assert found.lists.scores.tolist() == wanted.lists.scores.tolist()
    np.testing.assert_array_equal(found.left_out_BR, wanted.left_out_BR)
