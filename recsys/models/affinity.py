"""Fields of a user and a candidate together: taken before, how often, how long ago; how often its category.

Where people buy again these tell most. They are counted, not looked up by pair, so that they hold for pairs that
training never saw. 0 means never; numbers are from 1. Only numpy: Spark's workers score without torch.
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
AFFINITY_ROWS = {
    "times_taken": MOST_TIMES + 1,
    "days_since_taken": MOST_DOUBLINGS + 1,
    "times_category": MOST_DOUBLINGS + 1,
}
"""By field, the rows of its table, 0 included."""


def affinity_ids(
    category_num_I: NDArray[np.int32], history_BH: Ints, days_BH: Days, item_nums_BM: Ints
) -> dict[str, Ints]:
    """By field, the rows to look up, (B, M).

    Args:
        history_BH: 0 where there is no event.
        days_BH: how long before the user's newest event each event was; 0 and more.
        item_nums_BM: 0 for an unknown item, which was never taken.
    """
    items_BM1, history_B1H = item_nums_BM[:, :, None], history_BH[:, None, :]
    taken_BMH = (items_BM1 == history_B1H) & (items_BM1 > 0)
    newest_BM = np.where(taken_BMH, days_BH[:, None, :], np.inf).min(axis=2, initial=np.inf)
    category_BM1 = category_num_I[item_nums_BM][:, :, None]
    alike_BMH = (category_BM1 == category_num_I[history_BH][:, None, :]) & (category_BM1 > 0)
    return {
        "times_taken": np.minimum(taken_BMH.sum(axis=2), MOST_TIMES),
        "days_since_taken": np.where(np.isinf(newest_BM), 0, _doublings(1 + newest_BM)),
        "times_category": _doublings(alike_BMH.sum(axis=2)),
    }


def _doublings(values: NDArray[np.float64] | Ints) -> Ints:
    """1 for values in [1, 2), 2 for [2, 4), … and MOST_DOUBLINGS from there on; 0 below 1."""
    edges = 2.0 ** np.arange(MOST_DOUBLINGS)
    return np.searchsorted(edges, values, side="right").astype(np.int64)
