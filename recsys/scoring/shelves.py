"""What is offered where no user is known: beside an item what is similar and what is also bought, popular items by
segment."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from numpy.typing import NDArray

from recsys import contracts
from recsys.config.sections import ScoringConfig
from recsys.lake import Lake
from recsys.records import Recipe
from recsys.scoring.kit import Kit
from recsys.scoring.lists import Lists
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.users import UserBatch

log = structlog.get_logger()

POPULAR = Entry(Recipe(name="popularity", popularity=1.0))
AFTER = Entry(Recipe(name="also_bought", transitions=1.0))


def similar_items(kit: Kit, n: int) -> pa.Table:
    """The ``n`` most similar items of each item that no mask hides from everybody; ties to the smaller item number.

    Rows of the table similar_items but ``as_of``, in the order of its key.
    """
    rows = np.repeat(np.arange(kit.width), np.diff(kit.similarity.indptr))
    kept = np.asarray(kit.allowed)[kit.similarity.indices]
    rows, others, scores = rows[kept], kit.similarity.indices[kept], kit.similarity.data[kept]
    by_id = np.empty(kit.width, np.int64)
    by_id[np.asarray(pc.array_sort_indices(kit.item_ids))] = np.arange(kit.width)
    order = np.lexsort((others, -scores, by_id[rows]))
    rows, others, scores = rows[order], others[order], scores[order]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    lengths = np.diff(np.append(starts, len(rows)))
    ranks = 1 + np.arange(len(rows)) - np.repeat(starts, lengths)
    first = ranks <= n
    return pa.table({
        "item_id": kit.item_ids.take(pa.array(rows[first])),
        "rank": pa.array(ranks[first].astype(np.int32)),
        "similar_item_id": kit.item_ids.take(pa.array(others[first])),
        "score": pa.array(scores[first]),
    })  # fmt: skip


def popular_items(kit: Kit, rules: Rules, n: int) -> pa.Table:
    """What a user without a history is offered, by segment: the same scorer, the same rules.

    Rows of the table popular_items but ``as_of``, in the order of its key: the kit's segments ascend.
    """
    lists = Scorer(kit, rules).lists(_strangers(len(kit.segments)), POPULAR, n)
    segments = pa.array(kit.segments, pa.string()).take(pa.array(lists.rows))
    return _places(kit, lists, {"segment": segments}, "item_id")


def also_bought(kit: Kit, n: int) -> pa.Table:
    """The ``n`` items that are most taken up after each item: what the scorer says of a user who has it alone, by the
    transitions. No mask but those that hide an item from everybody, and no list rule, as with similar items.

    Rows of the table also_bought but ``as_of``, in the order of its key.
    """
    by_id = np.asarray(pc.array_sort_indices(kit.item_ids)).astype(np.int32)
    known = by_id[np.diff(kit.transitions.indptr)[by_id] > 0]
    lists = Scorer(kit, Rules()).lists(_owners(known), AFTER, n)
    items = kit.item_ids.take(pa.array(known[lists.rows]))
    return _places(kit, lists, {"item_id": items}, "next_item_id")


def write_shelves(
    lake: Lake, kit: Kit, rules: Rules, scoring: ScoringConfig, run_date: date
) -> None:
    """similar_items, also_bought and popular_items of ``run_date``."""
    where = {"as_of": run_date}
    lake.replace_by_arrow(similar_items(kit, scoring.similar_n), contracts.SIMILAR_ITEMS, where)
    bought = also_bought(kit, scoring.similar_n)
    if not bought.num_rows:
        log.warning(
            "also_bought_is_empty", as_of=str(run_date), transitions=kit.transitions.nnz,
            reason=f"no transition to an item that is allowed as of {kit.as_of}",
        )  # fmt: skip
    lake.replace_by_arrow(bought, contracts.ALSO_BOUGHT, where)
    popular = popular_items(kit, rules, scoring.popular_n)
    lake.replace_by_arrow(popular, contracts.POPULAR_ITEMS, where)


def _places(kit: Kit, lists: Lists, of: dict[str, pa.Array], item: str) -> pa.Table:
    """A row for each place that scores above 0; ``of`` says whose list it is in, ``item`` is the column of its item."""
    table = pa.table(of | {
        "rank": pa.array(lists.ranks.astype(np.int32)),
        item: kit.item_ids.take(pa.array(lists.item_nums)),
        "score": pa.array(lists.scores.astype(np.float64)),
    })  # fmt: skip
    return table.filter(pc.greater(table.column("score"), 0))


def _strangers(segments: int) -> UserBatch:
    """One user without a history in each segment."""
    return _users(np.zeros(0, np.int32), np.arange(segments, dtype=np.int32))


def _owners(item_nums: NDArray[np.int32]) -> UserBatch:
    """One user of the whole shop for each item, who has it alone."""
    return _users(item_nums, np.zeros(len(item_nums), np.int32))


def _users(item_nums: NDArray[np.int32], segments: NDArray[np.int32]) -> UserBatch:
    """Of whom is known what one has, an item each or nobody anything, and the segment."""
    nobody, num_items = np.zeros(len(segments) + 1, np.int64), len(item_nums)
    none = np.zeros(0, np.int32)
    return UserBatch(
        np.arange(num_items + 1, dtype=np.int64) if num_items else nobody, item_nums,
        np.zeros(num_items, np.float32), np.ones(num_items), np.ones(num_items, bool),
        nobody, none, nobody, none, segments, np.zeros(len(segments), np.int64),
    )  # fmt: skip
