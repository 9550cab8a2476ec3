"""What the rules took, counted: rows of the table ``rules``.

Shape suffixes: B users, N catalogue (num_items + 1), R rules that look at the user or the list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql.pandas.types import to_arrow_schema

from recsys.config import RecsysConfig
from recsys.config.rules import MAX_PER, RETURNED, SEEN
from recsys.contracts import RULES
from recsys.errors import ContractError
from recsys.lake import Lake, Written, struct_type
from recsys.scoring.kit import Kit
from recsys.scoring.kit_tables import RuledKit
from recsys.scoring.list_rules import Limited
from recsys.scoring.scorer import Rules
from recsys.scoring.users import Ints, UserBatch

Row = tuple[Any, ...]

STAGES = (1, 3)
"""What the contract's CHECK lets through: Delta looks at it where Spark writes, and where Arrow does, nobody would."""
MOST_NAMED = 5


def rules_by_user(rules: Rules) -> tuple[str, ...]:
    """Names of the rules that take something from one user and not from another."""
    return (SEEN, RETURNED, *(f"{MAX_PER}{name}" for name, _ in rules.max_per))


def left_out_by_user(users: UserBatch, limited: Limited, kit: Kit, rules: Rules) -> Ints:
    """[users, ``rules_by_user``]: items kept from each user that the masks of the catalogue let through."""
    seen_B = _allowed_among(users, users.seen_offsets, users.seen_nums, kit)
    hidden_B = _allowed_among(users, users.hidden_offsets, users.hidden_nums, kit)
    return np.column_stack([seen_B * rules.exclude_seen, hidden_B, limited.left_out_BR])


def _allowed_among(users: UserBatch, offsets: Ints, nums: NDArray[np.int32], kit: Kit) -> Ints:
    """How many of each user's ``nums`` the catalogue's masks let through."""
    rows = np.repeat(np.arange(len(users)), np.diff(offsets))
    known = nums < kit.width
    rows, nums = rows[known], nums[known]
    if kit.segment_allowed is None:
        allowed = kit.allowed[nums]
    else:
        allowed = kit.segment_allowed[users.segments[rows], nums]
    return np.bincount(rows[allowed], minlength=len(users))


def count_names(rules: Rules) -> tuple[str, ...]:
    """Of scored users: all of them, those without a list, and from how many users each rule took how many places."""
    each = (f"{what} {name}" for name in rules_by_user(rules) for what in ("users", "places"))
    return ("users", "without_a_list", *each)


def counts_of(lengths_B: Ints, left_out_BR: Ints) -> Ints:
    """``count_names`` of a batch, of its lists' lengths; ``left_out_BR`` is ``left_out_by_user``."""
    per_rule = np.stack([(left_out_BR > 0).sum(axis=0), left_out_BR.sum(axis=0)], axis=1)
    return np.concatenate([[len(lengths_B), (lengths_B == 0).sum()], per_rule.ravel()])


def rule_rows(
    ruled: RuledKit, config: RecsysConfig, rules: Rules, counted: Mapping[str, int | None]
) -> list[Row]:
    """Rows of the table ``rules``; ``counted`` is what ``counts`` gave, None where not all users were scored."""
    as_of = ruled.kit.as_of
    rows = list(_mask_rows(ruled))
    for name, definition, threshold, stage in _declared_by_user(config):
        taken = (counted[f"users {name}"], counted[f"places {name}"])
        rows.append((name, as_of, "", stage, json.dumps(definition), threshold, [], 0, 0, *taken))
    return rows


def write_rules(lake: Lake, rows: Sequence[Row], run_date: date) -> Written:
    """Replace the rules of ``run_date`` by ``rows``, which ``rule_rows`` made; their day is that of the kit.

    By Arrow, as the shelves are: a few rows cost Spark some ten jobs to check, write and count.

    Raises:
        ContractError: a stage that is none, two rows of one rule and segment, or another check failed; the table is
            as before.
    """
    schema = to_arrow_schema(struct_type(RULES))
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = [pa.array(values, one.type) for values, one in zip(columns, schema, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema).drop_columns(["as_of"])
    wrong = table.filter(pc.invert(pc.is_in(table.column("stage"), pa.array(STAGES, pa.int32()))))
    if len(wrong):
        found = ", ".join(
            f"{row['rule']}: {row['stage']}" for row in wrong.to_pylist()[:MOST_NAMED]
        )
        raise ContractError(
            f"{RULES.name} contract broken:\n  stage: {len(wrong)} rules are of none of the stages "
            f"{', '.join(map(str, STAGES))}: {found}; nothing was written"
        )
    in_order = table.sort_by([("rule", "ascending"), ("segment", "ascending")])
    return lake.replace_by_arrow(in_order, RULES, {"as_of": run_date})


def _declared_by_user(config: RecsysConfig) -> Iterator[tuple[str, object, float | None, int]]:
    """Name, definition, number and stage of the rules that are in force."""
    if config.shop.exclude_seen:
        signals = config.shop.signals.items()
        yield SEEN, {name: one.seen_days for name, one in signals if one.seen_days > 0}, None, 1
    if days := config.rules.returned_days:
        yield RETURNED, days, float(days), 1
    for group, most in config.rules.limits:
        yield f"{MAX_PER}{group}", most, float(most), 3


def _mask_rows(ruled: RuledKit) -> Iterator[Row]:
    kit = ruled.kit
    masks = [(mask, segment) for mask in ruled.masks for segment in mask.segments or ("",)]
    takers_by_segment = {
        segment: sum(
            (mask.hidden_N.astype(np.int32) for mask, s in masks if s in {"", segment}),
            start=np.zeros(kit.width, dtype=np.int32),
        )
        for segment in {segment for _, segment in masks}
    }
    for mask, segment in masks:
        alone = int((mask.hidden_N & (takers_by_segment[segment] == 1)).sum())
        items = _ids(kit, mask.hidden_N)
        yield (
            mask.rule, kit.as_of, segment, 1, mask.definition, mask.threshold, items, len(items), alone,
            None, None,
        )  # fmt: skip


def _ids(kit: Kit, hidden_N: NDArray[np.bool_]) -> Sequence[str]:
    ids: list[str] = kit.item_ids.filter(pa.array(hidden_N)).sort().to_pylist()
    return ids
