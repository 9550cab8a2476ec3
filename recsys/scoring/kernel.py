"""Stage 1: the best M items of each user, exact over the allowed catalogue.

Two passes. A float32 pass over the whole catalogue finds every item that can be among the best M, with
a bound on its own rounding; the few that pass are scored again in float64, pair by pair in a fixed
order, rounded to 6 decimals, and ranked by (score, smaller item number). So neither the batch, nor the
block, nor the BLAS decides an order.

Shape suffixes: B users, N catalogue (num_items + 1), P pairs of user and item.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys.records import Recipe
from recsys.scoring.kit import Kit
from recsys.scoring.lists import SOURCES, Lists
from recsys.scoring.parts import DenseParts, Floats, Parts
from recsys.scoring.users import Ints, UserBatch

DECIMALS = 6
ITEM_ITEM_SCALE = 50.0
GROUP = 16
"""Items per group when the threshold is looked for: the M-th best group maximum is a lower bound."""


class Scratch:
    """Two blocks of memory that every batch of a worker reuses."""

    def __init__(self, users: int, width: int) -> None:
        self.scores_BN = np.empty((users, width), dtype=np.float32)
        self.item_item_BN = np.zeros((users, width), dtype=np.float64)
        """All zero between calls."""


def retrieve(
    parts: Parts, kit: Kit, recipe: Recipe, *, m: int, exclude_seen: bool, scratch: Scratch
) -> Lists:
    """The best ``m`` allowed items of each user, best first; shorter where fewer are allowed.

    ``scratch`` has room for the users of ``parts``.
    """
    users = parts.users
    scores_BN = scratch.scores_BN[: len(users)]
    raw_BN = scratch.item_item_BN[: len(users)]
    popular = _PopularPart(users, kit, recipe)
    slack_B = np.zeros(len(users))

    dense = parts.dense if recipe.model > 0 else None
    if dense is None:
        scores_BN[:] = 0
    else:
        slack_B += _add_dense(scores_BN, dense, recipe.model)
    popular.add_to(scores_BN, kit.allowed)
    touched = _add_item_item(scores_BN, raw_BN, parts, recipe)
    largest = float(raw_BN.ravel()[touched].max(initial=0.0))
    slack_B += 2.0**-20 * (np.log1p(ITEM_ITEM_SCALE * largest) + popular.weight_B)
    if exclude_seen:
        _hide_seen(scores_BN, users)

    keys_P = _survivors(scores_BN, m, 2 * slack_B + 3 * 10.0**-DECIMALS)
    rows_P, nums_P = np.divmod(keys_P, kit.width)
    raw_P = raw_BN.ravel()[keys_P]
    raw_BN.ravel()[touched] = 0

    z_P = np.zeros(len(keys_P)) if dense is None else recipe.model * dense.z(rows_P, nums_P)
    item_item_P = np.log1p(ITEM_ITEM_SCALE * raw_P)
    popular_P = popular.of(rows_P, nums_P)
    total_P = np.round(z_P + item_item_P + popular_P, DECIMALS).astype(np.float32)

    order = np.lexsort((nums_P, -total_P, rows_P))
    ranks = np.arange(len(order)) - np.searchsorted(rows_P, rows_P)  # rows ascend before and after
    best = order[ranks < m]
    repeat_P = _repeated(parts, recipe, keys_P[best], kit.width)
    has_vector_P = (
        np.zeros(len(best), dtype=bool)
        if dense is None
        else (nums_P[best] < len(dense.item_vectors)) & (dense.inverse_spread_B[rows_P[best]] > 0)
    )
    share_P = np.divide(repeat_P, raw_P[best], out=np.zeros(len(best)), where=raw_P[best] > 0)
    repeat_P = share_P * item_item_P[best]  # item_item's log is shared out by what is in it
    sources = _sources(
        np.where(has_vector_P, z_P[best], -np.inf),
        item_item_P[best] - repeat_P,
        repeat_P,
        popular_P[best],
    )
    lengths = np.bincount(rows_P[best], minlength=len(users))
    return Lists(
        np.concatenate([[0], np.cumsum(lengths)]),
        nums_P[best].astype(np.int32),
        total_P[best],
        sources,
    )


class _PopularPart:
    """popularity * popularity(i), in each user's segment; 1 * popularity(i) without a history."""

    def __init__(self, users: UserBatch, kit: Kit, recipe: Recipe) -> None:
        segments, self._row_B = np.unique(users.segments, return_inverse=True)
        self._shares_SN = (
            np.stack([kit.popularity(int(s)) for s in segments]) if len(segments) else None
        )
        self.weight_B = np.where(users.has_history, recipe.popularity, 1.0)

    def add_to(self, scores_BN: NDArray[np.float32], allowed: NDArray[np.bool_]) -> None:
        hidden = np.where(allowed, np.float32(0), np.float32(-np.inf))
        bases: dict[tuple[int, float], NDArray[np.float32]] = {}
        for b, key in enumerate(zip(self._row_B.tolist(), self.weight_B.tolist(), strict=True)):
            if key not in bases:
                assert self._shares_SN is not None
                bases[key] = (key[1] * self._shares_SN[key[0]]).astype(np.float32) + hidden
            scores_BN[b] += bases[key]

    def of(self, rows_P: Ints, nums_P: Ints) -> Floats:
        if self._shares_SN is None:
            return np.zeros(0)
        share_P: Floats = self._shares_SN[self._row_B[rows_P], nums_P]
        return self.weight_B[rows_P] * share_P


def _add_dense(scores_BN: NDArray[np.float32], dense: DenseParts, weight: float) -> Floats:
    """Write weight * z into ``scores_BN``; returns the bound on each row's rounding."""
    factor_B = weight * dense.inverse_spread_B
    known = len(dense.item_vectors)
    scores_BN[:, known:] = 0
    scaled_BD = (factor_B[:, None] * dense.user_BD).astype(np.float32)
    np.matmul(scaled_BD, dense.item_vectors.T, out=scores_BN[:, :known])
    scores_BN[:, :known] -= (factor_B * dense.mean_B).astype(np.float32)[:, None]
    return weight * dense.error_B


def _add_item_item(
    scores_BN: NDArray[np.float32], raw_BN: Floats, parts: Parts, recipe: Recipe
) -> Ints:
    """Fill ``raw_BN`` with item_item and add its log; returns the flat places that were filled."""
    if parts.item_item is None or not recipe.uses_item_item:
        return np.zeros(0, dtype=np.int64)
    width = raw_BN.shape[1]
    raw = raw_BN.reshape(-1)
    for weight, matrix in (
        (recipe.similarity, parts.item_item.similarity_BN),
        (recipe.transitions, parts.item_item.transitions_BN),
        (recipe.repeat, parts.item_item.repeat_BN),
    ):
        if weight > 0:
            raw[_keys(matrix, width)] += weight * matrix.data  # each key at most once
    touched = np.flatnonzero(raw)
    scores_BN.reshape(-1)[touched] += np.log1p(ITEM_ITEM_SCALE * raw[touched]).astype(np.float32)
    return touched


def _keys(matrix: csr_array, width: int) -> Ints:
    """row * width + column of each entry."""
    starts = np.arange(matrix.shape[0], dtype=np.int64) * width
    keys: Ints = np.repeat(starts, np.diff(matrix.indptr)) + matrix.indices
    return keys


def _hide_seen(scores_BN: NDArray[np.float32], users: UserBatch) -> None:
    rows = np.repeat(np.arange(len(users)), np.diff(users.seen_offsets))
    known = users.seen_nums < scores_BN.shape[1]
    scores_BN[rows[known], users.seen_nums[known]] = -np.inf


def _survivors(scores_BN: NDArray[np.float32], m: int, margin_B: Floats) -> Ints:
    """Flat places of every item that can be among a row's best ``m``, ascending."""
    users, width = scores_BN.shape
    groups = width // GROUP
    if groups >= m:
        # The m-th best of the groups' best is not above the m-th best of all, and cheaper to find.
        grouped = scores_BN[:, : groups * GROUP].reshape(users, GROUP, groups).max(axis=1)
    else:
        grouped = scores_BN
    place = grouped.shape[1] - min(m, grouped.shape[1])
    bound_B = np.partition(grouped, place, axis=1)[:, place].astype(np.float64) - margin_B
    lowest = np.finfo(np.float32).min  # -inf is never a candidate
    floor_B = np.nextafter(np.maximum(bound_B, lowest).astype(np.float32), lowest)
    return np.flatnonzero(scores_BN >= floor_B[:, None])


def _repeated(parts: Parts, recipe: Recipe, keys_P: Ints, width: int) -> Floats:
    """How much of item_item is the item itself being in the history."""
    if parts.item_item is None or recipe.repeat == 0 or not len(keys_P):
        return np.zeros(len(keys_P))
    matrix = parts.item_item.repeat_BN  # its entries ascend
    keys = _keys(matrix, width)
    if not len(keys):
        return np.zeros(len(keys_P))
    places = np.minimum(np.searchsorted(keys, keys_P), len(keys) - 1)
    repeated: Floats = np.where(keys[places] == keys_P, recipe.repeat * matrix.data[places], 0.0)
    return repeated


def _sources(
    model_P: Floats, similar_P: Floats, repeat_P: Floats, popular_P: Floats
) -> NDArray[np.int8]:
    """The largest part of each score; parts other than the model's count only above 0."""
    parts_4P = np.stack([
        model_P, _where_positive(similar_P), _where_positive(repeat_P), _where_positive(popular_P),
    ])  # fmt: skip
    nothing = np.isneginf(parts_4P).all(axis=0)
    best = np.where(nothing, SOURCES.index("popular"), parts_4P.argmax(axis=0))
    return best.astype(np.int8)


def _where_positive(part: Floats) -> Floats:
    return np.where(part > 0, part, -np.inf)
