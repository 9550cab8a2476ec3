"""What is offered where no user is known: similar items beside an item, popular items by segment."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import contracts
from recsys.config.sections import ScoringConfig
from recsys.lake import Lake
from recsys.records import Recipe
from recsys.scoring.kit import Kit
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.users import UserBatch

POPULAR = Entry(Recipe(name="popularity", popularity=1.0))


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
    table = pa.table(
        {
            "segment": segments,
            "rank": pa.array(lists.ranks.astype(np.int32)),
            "item_id": kit.item_ids.take(pa.array(lists.item_nums)),
            "score": pa.array(lists.scores.astype(np.float64)),
        }
    )
    return table.filter(pc.greater(table.column("score"), 0))


def write_shelves(
    lake: Lake, kit: Kit, rules: Rules, scoring: ScoringConfig, run_date: date
) -> None:
    """similar_items and popular_items of ``run_date``."""
    where = {"as_of": run_date}
    lake.replace_by_arrow(similar_items(kit, scoring.similar_n), contracts.SIMILAR_ITEMS, where)
    popular = popular_items(kit, rules, scoring.popular_n)
    lake.replace_by_arrow(popular, contracts.POPULAR_ITEMS, where)


def _strangers(segments: int) -> UserBatch:
    """One user without a history in each segment."""
    nothing = np.zeros(segments + 1, dtype=np.int64)
    return UserBatch(
        nothing, np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0), np.zeros(0, bool),
        nothing, np.zeros(0, np.int32), nothing, np.zeros(0, np.int32),
        np.arange(segments, dtype=np.int32), np.zeros(segments, np.int64),
    )  # fmt: skip
