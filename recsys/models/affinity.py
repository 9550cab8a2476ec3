"""Fields of a user and a candidate together: whether it is in the history, how often, how long ago; its category.

A history holds events of every type that conf counts as one, views too, not purchases alone. Where people buy again
these fields tell most. They are counted, not looked up by pair, so that they hold for pairs that training never saw.
0 means never; numbers are from 1. Only numpy: Spark's workers score without torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Shape suffixes in this file:
#   B users at a moment   H newest items of a history   M candidates of each   I item numbers, 0 included
Ints = NDArray[np.int64]
Days = NDArray[np.float32]

MOST_TIMES = 10
MOST_DOUBLINGS = 10
AFFINITY_TABLE_ROWS = {
    "times_in_history": MOST_TIMES + 1,
    "days_since_in_history": MOST_DOUBLINGS + 1,
    "category_times_in_history": MOST_DOUBLINGS + 1,
}
"""By field, the rows of its table, 0 included."""


def affinity_rows(
    category_num_I: NDArray[np.int32], history_BH: Ints, days_BH: Days, item_nums_BM: Ints
) -> dict[str, Ints]:
    """By field, the rows of its table to look up, (B, M).

    Args:
        category_num_I: int32, 0 where unknown.
        history_BH: 0 where there is no event.
        days_BH: how long before the user's newest event each event was; 0 and more.
        item_nums_BM: 0 for an unknown item, which is in no history.
    """
    items_BM1, history_B1H = item_nums_BM[:, :, None], history_BH[:, None, :]
    same_BMH = (items_BM1 == history_B1H) & (items_BM1 > 0)
    newest_BM = np.where(same_BMH, days_BH[:, None, :], np.inf).min(axis=2, initial=np.inf)
    category_BM1 = category_num_I[item_nums_BM][:, :, None]
    alike_BMH = (category_BM1 == category_num_I[history_BH][:, None, :]) & (category_BM1 > 0)
    return {
        "times_in_history": np.minimum(same_BMH.sum(axis=2), MOST_TIMES),
        "days_since_in_history": np.where(np.isinf(newest_BM), 0, _doublings(1 + newest_BM)),
        "category_times_in_history": _doublings(alike_BMH.sum(axis=2)),
    }


def _doublings(values: NDArray[np.float64] | Ints) -> Ints:
    """1 for values in [1, 2), 2 for [2, 4), … and MOST_DOUBLINGS from there on; 0 below 1."""
    edges = 2.0 ** np.arange(MOST_DOUBLINGS)
    return np.searchsorted(edges, values, side="right").astype(np.int64)
