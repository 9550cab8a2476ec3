"""What the rules hide and let through that they did not, from rows of the table and a kit, by eye."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from pyspark.sql import Row

from recsys import contracts
from recsys.scoring.kit import Kit
from recsys.scoring.rule_changes import RuleChanges, only_newly_allowed, rule_changes
from tests.scoring.worlds import kit_of

NAMES = contracts.RULES.column_names


def rule(
    name: str, hidden: tuple[int, ...] = (), segment: str = "", stage: int = 1, threshold: float | None = None
) -> tuple[Any, ...]:  # fmt: skip
    """A row of the table; ``hidden`` are item numbers."""
    values = dict(
        rule=name, as_of=date(2024, 6, 1), segment=segment, stage=stage, definition="{}", threshold=threshold,
        item_ids=[f"item-{n}" for n in hidden], num_items=len(hidden), num_items_alone=0,
    )  # fmt: skip
    return tuple(values.get(column) for column in NAMES)


def rows(*rules: tuple[Any, ...]) -> list[Row]:
    return [Row(*NAMES)(*values) for values in rules]


def kit(*, hidden: tuple[int, ...] = (), hidden_in_1: tuple[int, ...] = ()) -> Kit:
    """Five items, two segments beside the whole shop."""
    made = kit_of(5, hidden=hidden, buyers=[[1] * 5] * 3)
    if not hidden_in_1:
        return made
    allowed_SN = np.tile(made.allowed, (3, 1))
    allowed_SN[1, list(hidden_in_1)] = False
    return kit_of(5, hidden=hidden, buyers=[[1] * 5] * 3, segment_allowed=allowed_SN)


def items(changes: RuleChanges) -> tuple[list[list[int]], list[list[int]]]:
    """Newly hidden and newly allowed item numbers by segment."""
    both = (changes.hidden_SN, changes.allowed_SN)
    hidden, allowed = ([np.flatnonzero(row).tolist() for row in matrix] for matrix in both)
    return hidden, allowed


def test_what_is_hidden_and_let_through_is_told_by_segment() -> None:
    before = rows(rule("out_of_stock", (1,)), rule("oz", (2,), "segment-1"))
    found = rule_changes(before, [], kit(hidden=(3,), hidden_in_1=(4,)), re_ranks=False)
    assert items(found) == ([[3], [3, 4], [3]], [[1], [1, 2], [1]])
    assert not found.everybody and not found.same_masks
    alone = only_newly_allowed(kit(), found)
    assert [np.flatnonzero(alone.allowed_in(s)).tolist() for s in range(3)] == [[1], [1, 2], [1]]


def test_another_name_or_another_rule_for_the_same_items_is_no_change() -> None:
    before = rows(rule("blocked", (1, 3)), rule("out_of_stock", (3,)))
    found = rule_changes(before, [rule("too dear", (1, 3))], kit(hidden=(1, 3)), re_ranks=True)
    assert found.same_masks and not found.everybody


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([rule("seen")], []),
        ([rule("returned", threshold=30)], [rule("returned", threshold=20)]),
        ([], [rule("max_per_brand", stage=3, threshold=2)]),
    ],
)
def test_a_rule_of_users_or_lists_that_changed_means_everybody(before: Any, now: Any) -> None:
    assert "changed: ['" in rule_changes(rows(*before), now, kit(), re_ranks=False).everybody
    assert not rule_changes(rows(*before), before, kit(), re_ranks=False).everybody


def test_masks_mean_everybody_where_the_recipe_re_ranks_or_a_segment_lost_its_rules() -> None:
    hidden = rows(rule("blocked", (1,)))
    assert "re-ranks" in rule_changes(hidden, [], kit(), re_ranks=True).everybody
    gone = rows(rule("oz", (1,), "Oz"))
    assert "['Oz']" in rule_changes(gone, [], kit(), re_ranks=False).everybody
