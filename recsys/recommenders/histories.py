"""Histories as the recommenders weigh them, and products of which no user's row depends on the batch.

Shape suffixes: U users, B users of a batch, T events, P pairs of events, N catalogue (num_items + 1), D width of a
vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from recsys.errors import MissingInput
from recsys.recommenders.shop import Floats, Histories, Ints, Scores, Shop

_LATE_LEAN = 15.0

FILL = 1e-4
"""What the best seller counts beside what a recommender found: places that it has nothing for go to best sellers,
not to small numbers."""


def known(histories: Histories, num_items: int) -> Histories:
    """Without events of items that the shop does not know; they take no place in the order either."""
    kept = (histories.item_nums > 0) & (histories.item_nums <= num_items)
    return histories if kept.all() else histories.where(kept)


def by_recency(
    histories: Histories, width: int, decay: float, newest: int | None = None
) -> csr_array:
    """(B, N) float32: the sum of ``decay ** places to newest`` over a user's events of an item; 0 ** 0 is 1.

    Of the ``newest`` events alone where that is given.
    """
    histories = known(histories, width - 1)
    places = histories.places_to_newest
    weights = np.power(decay, places.astype(np.float64))
    if newest is not None:
        weights[places >= newest] = 0.0
    return single(histories.matrix(width - 1, weights))


def apart(histories: Histories, most: int) -> Iterator[tuple[int, Ints, Ints]]:
    """For 1 to ``most`` places, and each two events of one user so far apart: the older ones, and the newer ones."""
    rows = histories.rows
    for places in range(1, most + 1):
        older = np.flatnonzero(rows[places:] == rows[:-places])
        yield places, older, older + places


def both_ways(
    histories: Histories, *, most: int, fade: float, backwards: float
) -> tuple[Ints, Ints, Floats]:
    """(P,) events, (P,) events of the same user at most ``most`` places away, and (P,) what the step counts.

    Over d places that is ``fade ** (d - 1)``, and ``backwards`` times as much where the second event is the older one.
    """
    starts, ends, weights = [], [], []
    for places, older, newer in apart(histories, most):
        weight = np.full(len(older), fade ** (places - 1))
        starts += [older, newer]
        ends += [newer, older]
        weights += [weight, backwards * weight]
    return np.concatenate(starts), np.concatenate(ends), np.concatenate(weights)


def whether_had(histories: Histories, num_items: int) -> csr_array:
    """(U, N) float64: 1 where a user had an item, however often."""
    had = histories.matrix(num_items)
    had.data[:] = 1.0
    return had


def single(matrix: csr_array) -> csr_array:
    """In float32, without zeros: scores need no more, and half the memory is half the time."""
    found = csr_array(matrix.astype(np.float32))
    found.eliminate_zeros()
    return found


def lateness(histories: Histories, width: int, power: float) -> Floats:
    """(N,) above 1 for items whose events lie near the end of histories, below 1 for those that lie far from it.

    What users take next is more often the former, whatever else speaks for it: it is newer, or it is what everyone
    takes and not the hundredth choice of a few. The mean of ``exp(-places to newest / mean length)`` over an item's
    events, leaning on that of all events as if by 15 of them, over that one, to the power ``power``.
    """
    count = len(histories.item_nums)
    if not count:
        return np.ones(width)
    mean_length = count / (histories.lengths > 0).sum()
    late = np.exp(-histories.places_to_newest / mean_length)
    counts = np.bincount(histories.item_nums, minlength=width)
    sums = np.bincount(histories.item_nums, weights=late, minlength=width)
    found: Floats = ((sums / late.mean() + _LATE_LEAN) / (counts + _LATE_LEAN)) ** power
    return found


def favouring_late(weights: csr_array, histories: Histories, power: float) -> csr_array:
    """In float32, every column times the ``lateness`` of its item."""
    late = lateness(histories, weights.shape[1], power)
    return single(scaled_columns(weights, late))


def dense(scores: csr_array) -> Scores:
    """(B, N) float32."""
    found: Scores = scores.toarray()
    return found


def times(users_BD: NDArray[Any], others_DN: NDArray[Any]) -> NDArray[Any]:
    """(B, N): one product per user. A product of the whole batch may round a row by where in it the row stands."""
    found: NDArray[Any] = np.matmul(users_BD[:, None, :], others_DN)[:, 0, :]
    return found


def scaled_columns(matrix: csr_array, factors: NDArray[Any]) -> csr_array:
    return csr_array(matrix @ diags_array(factors))


def scaled_rows(matrix: csr_array, factors: NDArray[Any]) -> csr_array:
    return csr_array(diags_array(factors) @ matrix)


def best_share(counts: Floats) -> Scores:
    """Counts as parts of the greatest one; zeros where all are zero."""
    greatest = counts.max(initial=0.0)
    return (counts / greatest if greatest > 0 else np.zeros_like(counts)).astype(np.float32)


def fill(shop: Shop) -> Scores:
    """(N,) what is popular, as little as counts only where a recommender found nothing."""
    return best_share(event_counts(shop)) * np.float32(FILL)


def event_counts(shop: Shop, weights: Floats | None = None) -> Floats:
    """(N,) sums over all target events of an item of ``weights`` (T,), of ones by default; item 0 has none.

    A view is no purchase: what everybody looks at and nobody takes is not popular.
    """
    nums, is_target = shop.histories.item_nums, shop.histories.is_target
    if is_target is not None:
        nums, weights = nums[is_target], None if weights is None else weights[is_target]
    counted = np.where((nums > 0) & (nums < shop.width), nums, 0)
    counts = np.bincount(counted, weights=weights, minlength=shop.width).astype(np.float64)
    counts[0] = 0.0
    return counts


def days_of(shop: Shop, name: str) -> tuple[Floats, float]:
    """Days of the shop's events, and the cut-off on the same clock.

    Raises:
        MissingInput: only the order of events is known.
    """
    if shop.histories.days is None or shop.as_of is None:
        raise MissingInput(
            f"{name} needs to know when things were bought: the shop's histories have no days, or it has no as_of; "
            "leave it out, or give event times"
        )
    return shop.histories.days, shop.as_of
