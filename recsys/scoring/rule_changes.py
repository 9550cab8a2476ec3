"""What the rules hide and let through that they did not before, and whose lists that can change.

Shape suffixes: S segments, N catalogue (num_items + 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from recsys import contracts
from recsys.candidates.popularity import WHOLE_SHOP
from recsys.config.rules import RETURNED, SEEN
from recsys.lake import Lake, local_rows
from recsys.scoring.kit import Kit
from recsys.scoring.rule_counts import Row as RuleRow

Bools = NDArray[np.bool_]
TOLERANCE = 1e-5
"""Of a score, relative: an item so near to a list's last place may be in it."""


@dataclass(frozen=True)
class RuleChanges:
    """Between the rules of the lists that are carried over, and today's."""

    hidden_SN: Bools
    """Newly hidden from the users of a segment of the kit."""
    allowed_SN: Bools
    """Newly let through."""
    everybody: str = ""
    """Why every list may be another; empty where only the items above matter."""

    @property
    def same_masks(self) -> bool:
        return not (self.hidden_SN.any() or self.allowed_SN.any())


def rule_changes(
    before: Sequence[Row], now: Iterable[RuleRow], kit: Kit, *, re_ranks: bool
) -> RuleChanges:
    """``before`` are the rows of the table ``rules`` of the lists carried over, ``now`` those of today;
    ``kit`` has today's masks.

    Compared is what rules take, ``item_ids`` by rule and segment, not what they are called or how they are put.
    """
    allowed_SN = np.stack([np.asarray(kit.allowed_in(s)) for s in range(len(kit.segments))])
    before_SN, unknown = _allowed_under(before, kit)
    changes = RuleChanges(before_SN & ~allowed_SN, allowed_SN & ~before_SN)
    of_lists = {
        (row["rule"], row["threshold"]) for row in before if _of_lists(row["rule"], row["stage"])
    }
    names = contracts.RULES.column_names
    rules_now = (dict(zip(names, row, strict=True)) for row in now)
    of_lists_now = {
        (row["rule"], row["threshold"]) for row in rules_now if _of_lists(row["rule"], row["stage"])
    }
    if of_lists != of_lists_now:
        changed = sorted({name for name, _ in of_lists ^ of_lists_now})
        return replace(
            changes, everybody=f"rules that look at the user or the list changed: {changed}"
        )
    if unknown:
        return replace(changes, everybody=f"no rule is for the segments {unknown} any more")
    if re_ranks and not changes.same_masks:
        # An item that is in no list may be among those that stage 2 looks at, and its z-scores rest on all of them.
        return replace(changes, everybody="the catalogue's rules changed, and the recipe re-ranks")
    return changes


def _of_lists(rule: str, stage: int) -> bool:
    return stage == 3 or rule in {SEEN, RETURNED}  # noqa: PLR2004  (the number of the stage)


def _allowed_under(rows: Sequence[Row], kit: Kit) -> tuple[Bools, list[str]]:
    """What the rows leave in each segment of the kit, and the segments of rules that it does not have."""
    ids = kit.item_ids.to_pylist()
    nums = {item_id: num for num, item_id in enumerate(ids) if item_id}
    allowed_SN = np.tile([bool(item_id) for item_id in ids], (len(kit.segments), 1))
    unknown = set()
    for row in rows:
        hidden = [nums[item_id] for item_id in row["item_ids"] if item_id in nums]
        if row["segment"] == WHOLE_SHOP:
            allowed_SN[:, hidden] = False
        elif row["segment"] in kit.segments:
            allowed_SN[kit.segments.index(row["segment"]), hidden] = False
        else:
            unknown.add(row["segment"])
    return allowed_SN, sorted(unknown)


def users_who_lose(
    lake: Lake, lists: DataFrame, segments: DataFrame, changes: RuleChanges, kit: Kit
) -> DataFrame:
    """(user_id): those whose list holds an item that is hidden from them now.

    The others' lists stay as they are: an item that was not taken made no room and took none (DESIGN: list rules are
    greedy in score order).
    """
    ids = np.asarray(kit.item_ids.to_pylist(), dtype=object)
    hidden_SN = changes.hidden_SN
    if (hidden_SN == hidden_SN[0]).all():
        for_all = _rows(lake, [(WHOLE_SHOP, ids[hidden_SN[0]].tolist())])
        joined = lists.crossJoin(F.broadcast(for_all))
    else:
        each = [(s, ids[row].tolist()) for s, row in zip(kit.segments, hidden_SN, strict=True)]
        of_segment = _rows(lake, [(s, taken) for s, taken in each if taken])
        joined = _in_segments(lists, segments, kit).join(F.broadcast(of_segment), "of_segment")
    return joined.where(F.arrays_overlap("item_ids", "taken")).select("user_id").distinct()


def _rows(lake: Lake, rows: list[tuple[str, list[str]]]) -> DataFrame:
    return local_rows(lake.spark, rows, "of_segment string, taken array<string>")


def _in_segments(lists: DataFrame, segments: DataFrame, kit: Kit) -> DataFrame:
    """The lists with ``of_segment``: the kit's segment, the whole shop where it has none."""
    known = F.col("segment").isin(*kit.segments)
    return lists.join(segments, "user_id", "left").withColumn(
        "of_segment", F.when(known, F.col("segment")).otherwise(WHOLE_SHOP)
    )


def only_newly_allowed(kit: Kit, changes: RuleChanges) -> Kit:
    """The kit in which nothing else can be in a list."""
    allowed_SN = changes.allowed_SN
    by_segment = None if (allowed_SN == allowed_SN[0]).all() else allowed_SN
    return replace(kit, allowed=allowed_SN[0].copy(), segment_allowed=by_segment)


def users_who_win(lists: DataFrame, best: DataFrame, n: int) -> DataFrame:
    """(user_id): those for whom the best newly allowed item is not behind the last place, or whose list has room.

    ``best`` are lists of one place, of newly allowed items alone.
    """
    found = best.where(F.size("scores") > 0).select("user_id", F.col("scores")[0].alias("new"))
    margin = F.lit(TOLERANCE) * F.greatest(F.lit(1.0), F.abs("last"))
    return (
        lists.select(
            "user_id",
            F.size("scores").alias("places"),
            F.try_element_at("scores", F.lit(-1)).alias("last"),
        )
        .join(found, "user_id")
        .where((F.col("places") < n) | (F.col("new") >= F.col("last") - margin))
        .select("user_id")
    )
