"""Ranking metrics of single users, as arrays.

A user has a set of targets; a list that holds one has a hit at its rank. A target that no list can
hold (an item outside the vocabulary) stays in the denominators. All figures are from 0 to 1.

recall@k     hits in the first k / targets
ndcg@k       sum over hits of 1 / log2(rank + 1), divided by what min(k, targets) hits at the top would give
mrr@k        1 / rank of the first hit within the first k, else 0
precision@k  hits in the first k / k, also where a list is shorter
f1@k         harmonic mean of precision@k and recall@k, 0 where both are
hit_rate@k   1 with a hit in the first k, else 0
map@k        mean over users of the average precision: sum over hits in the first k of precision@rank, divided by
             min(k, targets), so that a list of hits alone has 1

Libraries agree on all but MAP: Spark's ``meanAveragePrecisionAtK`` divides by min(k, targets) like ours, trec_eval
and what wraps it (ir-measures' ``AP@k``) by the targets, so that theirs cannot reach 1 where k is smaller. NDCG is
that of Järvelin and Kekäläinen (2002) with gains of 0 and 1.

Lists are ranked over the whole catalogue. A figure over a sample of candidates is another figure, and may order
recommenders the other way round (Krichene and Rendle, KDD 2020): nothing here takes one.

Shape suffixes: B users, K list places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ContractError

METRICS = ("recall", "ndcg", "mrr", "precision", "f1", "hit_rate", "map")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def hits(
    lists_BK: NDArray[np.int32], target_offsets: Ints, target_nums: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """(B, K): whether each place of the lists is a target of its user. 0 is an empty place, never a hit.

    The targets of user b are the places ``target_offsets[b]`` to ``target_offsets[b + 1] - 1`` of ``target_nums``.

    Raises:
        ContractError: a list or a user's targets hold an item twice, which would count it twice.
    """
    users, places = lists_BK.shape
    _refuse_repeats(lists_BK)
    rows = np.repeat(np.arange(users, dtype=np.int64), np.diff(target_offsets))
    targets = _distinct_keys(rows, target_nums)
    if not len(targets):
        return np.zeros((users, places), dtype=bool)
    keys_BK = (np.arange(users, dtype=np.int64)[:, None] << 32) + lists_BK
    nearest_BK = np.minimum(np.searchsorted(targets, keys_BK), len(targets) - 1)
    found: NDArray[np.bool_] = (targets[nearest_BK] == keys_BK) & (lists_BK != 0)
    return found


def metrics_by_user(hits_BK: NDArray[np.bool_], num_targets_B: Ints, ks: Sequence[int]) -> Floats:
    """(B, metric, k) in the order of ``METRICS`` and ``ks``; NaN for a user without targets.

    A k may be beyond the lists: the places that are not there are no hits.

    Raises:
        ContractError: a user has more hits than targets.
    """
    users, places = hits_BK.shape
    _refuse_more_hits_than_targets(hits_BK, num_targets_B)
    ranks = np.arange(1, places + 1)
    gains = 1.0 / np.log2(ranks + 1)
    first = np.where(hits_BK.any(axis=1), hits_BK.argmax(axis=1) + 1, places + 1)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(1, max(ks) + 1) + 1))])
    precision_at_hits_BK = hits_BK * (np.cumsum(hits_BK, axis=1) / ranks)
    has_targets = num_targets_B > 0
    targets = np.where(has_targets, num_targets_B, 1)
    values = np.empty((users, len(METRICS), len(ks)))
    for place, k in enumerate(ks):
        found = hits_BK[:, :k]
        num_hits, most = found.sum(axis=1), np.minimum(targets, k)
        by_metric = {
            "recall": num_hits / targets,
            "ndcg": (found * gains[:k]).sum(axis=1) / ideal[most],
            "mrr": np.where(first <= min(k, places), 1.0 / first, 0.0),
            "precision": num_hits / k,
            "f1": 2 * num_hits / (k + targets),  # the harmonic mean, without a division by 0
            "hit_rate": num_hits > 0,
            "map": precision_at_hits_BK[:, :k].sum(axis=1) / most,
        }
        for metric, name in enumerate(METRICS):
            values[:, metric, place] = by_metric[name]
    values[~has_targets] = np.nan
    return values


def _refuse_repeats(lists_BK: NDArray[np.int32]) -> None:
    in_order_BK = np.sort(lists_BK, axis=1)
    twice = (in_order_BK[:, 1:] == in_order_BK[:, :-1]) & (in_order_BK[:, 1:] != 0)
    if twice.any():
        row, place = np.argwhere(twice)[0]
        raise ContractError(
            f"the list in row {row} holds item {in_order_BK[row, place]} more than once "
            f"({twice.any(axis=1).sum()} of {len(lists_BK)} lists do so); a list names an item once"
        )


def _distinct_keys(rows: Ints, target_nums: NDArray[np.int32]) -> Ints:
    """User and item in one number each, ascending."""
    keys: Ints = (rows << 32) + target_nums
    if (keys[1:] <= keys[:-1]).any():
        keys = np.sort(keys)
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        row, num = divmod(int(keys[twice[0]]), 1 << 32)
        raise ContractError(
            f"the targets of row {row} hold item {num} more than once; a user's targets are a set"
        )
    return keys


def _refuse_more_hits_than_targets(hits_BK: NDArray[np.bool_], num_targets_B: Ints) -> None:
    num_hits_B = hits_BK.sum(axis=1)
    wrong = np.flatnonzero(num_hits_B > num_targets_B)
    if len(wrong):
        row = wrong[0]
        raise ContractError(
            f"the list in row {row} has {num_hits_B[row]} hits and its user {num_targets_B[row]} targets; "
            "the count of targets takes in all of them, those outside the vocabulary too"
        )
