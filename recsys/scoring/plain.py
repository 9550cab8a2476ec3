"""Stage 1 in numpy, for where the compiled kernel is not: the same two passes, and the same lists.

A sum of item-item contributions may differ from the kernel's in its last bit, which the rounding of scores hides.

Shape suffixes: B users, N catalogue (num_items + 1), D embedding width, P pairs of user and item, M places of a list.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys.scoring.lists import SOURCES, Lists, joined
from recsys.scoring.select import Asked, Matrix, Rows, Vectors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_CELLS = 4_000_000
"""Users x items at a time: 50 MB."""
PAIRS = 1 << 15
"""Of user and item at a time: bounds the gathered vectors' memory."""
GROUP = 16
"""Items per group when the threshold is looked for: the M-th best group maximum is a lower bound."""
ITEM_ITEM_SCALE = 50.0


def best(asked: Asked) -> Lists:
    """The best ``m`` of each user by (score, smaller item number)."""
    block = max(1, BLOCK_CELLS // asked.width)
    starts = range(0, len(asked), block)
    return joined([_block(asked, start, min(start + block, len(asked))) for start in starts])


def _block(asked: Asked, start: int, stop: int) -> Lists:
    width = asked.width
    scores_BN = np.stack([asked.bases.row(b)[:width] for b in range(start, stop)])
    if (vectors := asked.vectors) is not None:
        known = len(vectors.items)
        scores_BN[:, :known] += vectors.scaled_BD[start:stop] @ vectors.items.T
        scores_BN[:, known:] += vectors.at_the_mean_B[start:stop, None]
    raw_BN, repeat_BN = _item_item(asked, start, stop)
    touched = np.flatnonzero(raw_BN)
    scores_BN.ravel()[touched] += np.log1p(ITEM_ITEM_SCALE * raw_BN.ravel()[touched])
    for flat in asked.hidden:
        rows, nums = flat.places(start, stop, width)
        scores_BN[rows, nums] = -np.inf
    largest_B = raw_BN.max(axis=1, initial=0.0)
    margin_B = asked.margin_B[start:stop] + 2.0**-18 * np.log1p(ITEM_ITEM_SCALE * largest_B)

    keys_P = _survivors(scores_BN, asked.m, margin_B)
    rows_P, nums_P = np.divmod(keys_P, width)
    raw_P, repeat_P = raw_BN.ravel()[keys_P], repeat_BN.ravel()[keys_P]
    z_P = np.zeros(len(keys_P)) if vectors is None else _z(vectors, start + rows_P, nums_P)
    item_item_P = np.log1p(ITEM_ITEM_SCALE * raw_P)
    popular_P = _popular(asked.shares, start + rows_P, nums_P)
    popular_P *= asked.popular_weight_B[start + rows_P]
    total_P = z_P + item_item_P + popular_P
    if asked.decimals is not None:
        total_P = np.round(total_P, asked.decimals).astype(np.float32)

    order = np.lexsort((nums_P, -total_P, rows_P))
    ranks = np.arange(len(order)) - np.searchsorted(rows_P, rows_P)  # rows ascend before and after
    first = order[ranks < asked.m]
    share_P = np.divide(repeat_P, raw_P, out=np.zeros(len(keys_P)), where=raw_P > 0)
    repeat_P = share_P * item_item_P  # item_item's log is shared out by what is in it
    sources_P = _sources(
        np.where(_has_vector(asked, start + rows_P, nums_P), z_P, -np.inf),
        item_item_P - repeat_P,
        repeat_P,
        popular_P,
    )
    lengths = np.bincount(rows_P[first], minlength=stop - start)
    return Lists(
        np.concatenate([[0], np.cumsum(lengths)]),
        nums_P[first].astype(np.int32),
        total_P[first].astype(np.float32) + np.float32(0),  # no minus zero
        sources_P[first],
    )


def _item_item(asked: Asked, start: int, stop: int) -> tuple[Floats, Floats]:
    """The history times the matrices, by user and item; and the part of it that is of the item itself."""
    raw_BN = np.zeros((stop - start, asked.width))
    repeat_BN = np.zeros_like(raw_BN)
    if asked.item_item is None:
        return raw_BN, repeat_BN
    history, repeats, *others, _ = asked.item_item
    history_BN = _csr(history, asked.width)[start:stop]
    for matrix, weight in others:
        if weight > 0:
            raw_BN += (weight * (history_BN @ _csr(matrix, asked.width))).toarray()
    if repeats is not None:
        own = history._replace(values=repeats)
        repeat_BN = _csr(own, asked.width)[start:stop].toarray()  # which sums duplicates
    return raw_BN + repeat_BN, repeat_BN


def _csr(matrix: Matrix, width: int) -> csr_array:
    shape = (len(matrix.offsets) - 1, width)
    return csr_array((matrix.values, matrix.nums, matrix.offsets), shape=shape)


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
    return np.flatnonzero(scores_BN >= floors(bound_B)[:, None])


def floors(bound_B: Floats) -> NDArray[np.float32]:
    """Just below the bounds, and above minus infinity, which is never a candidate."""
    lowest = np.finfo(np.float32).min
    return np.nextafter(np.maximum(bound_B, lowest).astype(np.float32), lowest)


def _z(vectors: Vectors, users_P: Ints, nums_P: Ints) -> Floats:
    """The model's part of single pairs; 0 for items newer than the model. Eight partial sums, as in select.cpp."""
    z_P = np.zeros(len(users_P))
    known = np.flatnonzero(nums_P < len(vectors.items))
    width = -(-vectors.items.shape[1] // 8) * 8
    for start in range(0, len(known), PAIRS):
        pairs = known[start : start + PAIRS]
        users = users_P[pairs]
        products_PD = np.zeros((len(pairs), width))
        products_PD[:, : vectors.items.shape[1]] = vectors.user_BD[users]
        products_PD[:, : vectors.items.shape[1]] *= vectors.items[nums_P[pairs]]
        sums_P8 = np.zeros((len(pairs), 8))
        for eight in range(0, width, 8):
            sums_P8 += products_PD[:, eight : eight + 8]
        sums_P4 = sums_P8[:, ::2] + sums_P8[:, 1::2]
        dots_P = (sums_P4[:, 0] + sums_P4[:, 1]) + (sums_P4[:, 2] + sums_P4[:, 3])
        centred_P = dots_P - vectors.mean_B[users]
        z_P[pairs] = vectors.model * (centred_P * vectors.inverse_spread_B[users])
    return z_P


def _popular(shares: Rows[np.float64], users_P: Ints, nums_P: Ints) -> Floats:
    share_P = np.zeros(len(users_P))
    place_P = shares.place_B[users_P]
    for place, share_N in enumerate(shares.distinct):
        mine = place_P == place
        share_P[mine] = share_N[nums_P[mine]]
    return share_P


def _has_vector(asked: Asked, users_P: Ints, nums_P: Ints) -> NDArray[np.bool_]:
    if (vectors := asked.vectors) is None:
        return np.zeros(len(users_P), dtype=bool)
    has: NDArray[np.bool_] = (nums_P < len(vectors.items)) & (vectors.inverse_spread_B[users_P] > 0)
    return has


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
