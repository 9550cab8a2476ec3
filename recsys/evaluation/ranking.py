"""Ranking metrics of single users, as arrays.

A user has a set of targets; a list that holds one has a hit at its rank. A target that no list can
hold (an item outside the vocabulary) stays in the denominators.

recall@k  hits in the first k / targets
ndcg@k    sum over hits of 1 / log2(rank + 1), divided by what min(k, targets) hits at the top would give
mrr@k     1 / rank of the first hit within the first k, else 0

Shape suffixes: B users, K list places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

METRICS = ("recall", "ndcg", "mrr")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def hits(
    lists_BK: NDArray[np.int32], target_offsets: Ints, target_nums: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Whether each place of the lists is a target of its user. 0 is an empty place, never a hit."""
    users, places = lists_BK.shape
    rows = np.repeat(np.arange(users, dtype=np.int64), np.diff(target_offsets))
    list_keys = (np.arange(users, dtype=np.int64)[:, None] << 32) + lists_BK
    found: NDArray[np.bool_] = np.isin(list_keys, (rows << 32) + target_nums)
    at_places: NDArray[np.bool_] = found.reshape(users, places) & (lists_BK != 0)
    return at_places


def metrics_by_user(hits_BK: NDArray[np.bool_], num_targets_B: Ints, ks: Sequence[int]) -> Floats:
    """[B, metric, k] in the order of ``METRICS`` and ``ks``; NaN for a user without targets."""
    users, places = hits_BK.shape
    ranks = np.arange(1, places + 1)
    gains = 1.0 / np.log2(ranks + 1)
    first = np.where(hits_BK.any(axis=1), hits_BK.argmax(axis=1) + 1, places + 1)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(1, max(ks) + 1) + 1))])
    has_targets = num_targets_B > 0
    targets = np.where(has_targets, num_targets_B, 1)
    values = np.empty((users, len(METRICS), len(ks)))
    for place, k in enumerate(ks):
        found = hits_BK[:, :k]
        values[:, 0, place] = found.sum(axis=1) / targets
        values[:, 1, place] = (found * gains[:k]).sum(axis=1) / ideal[np.minimum(targets, k)]
        values[:, 2, place] = np.where(first <= min(k, places), 1.0 / first, 0.0)
    values[~has_targets] = np.nan
    return values
