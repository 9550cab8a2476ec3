"""What lists are like apart from being right: of the whole shop (coverage, Gini, popularity lift) or of each user.

Lists are (B, K) item numbers, best first, 0 where a list has ended; figures look at the places that are filled. To
look at the first k places, pass ``lists_BK[:, :k]``. What is per user is an array with NaN for a user of whom there
is nothing to say, so that it can be resampled like the ranking metrics.

Sources: coverage is the catalogue coverage of Ge, Delgado-Battenfeld and Jannach (RecSys 2010); Gini as in Shani and
Gunawardana, Evaluating Recommendation Systems (Recommender Systems Handbook, 2011); diversity as in Smyth and McClure
(ICCBR 2001), one minus the intra-list similarity of Ziegler and others (WWW 2005); novelty is the mean
self-information of Zhou and others (PNAS 2010); popularity lift as in Abdollahpouri, Mansoury, Burke and Mobasher
(RecSys 2020); repeat share as in Li and others, A Next Basket Recommendation Reality Check (TOIS 2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ContractError
from recsys.recommenders.shop import Histories

# Shape suffixes in this file:
#   B users   K list places   N catalogue (num_items + 1)   D width of a vector   S filled places of all lists
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ItemNums = NDArray[np.int32]

ROWS_AT_ONCE = 4096
"""Users whose items' vectors are gathered together: of 20 items and width 64, 42 MB."""


def times_shown(lists_BK: ItemNums, width: int) -> Ints:
    """(N,) in how many lists each item is."""
    times_N: Ints = np.bincount(_checked(lists_BK, width).ravel(), minlength=width)
    times_N[0] = 0
    return times_N


def coverage(times_N: Ints, allowed_N: NDArray[np.bool_]) -> float:
    """The share of the allowed items that are in at least one list, 0 to 1; NaN where nothing is allowed."""
    return float(((times_N > 0) & allowed_N).sum() / allowed_N.sum()) if allowed_N.any() else np.nan


def gini(times_N: Ints, allowed_N: NDArray[np.bool_]) -> float:
    """How unevenly places are given to the allowed items: 0 all alike, 1 one item has every place.

    NaN for fewer than two items, or for lists without a place.
    """
    times = times_N[allowed_N]
    items, places = len(times), times.sum()
    if items < 2 or not places:  # noqa: PLR2004 (two items: nothing can be uneven among fewer)
        return np.nan
    # In ascending order the i-th item weighs 2i - items - 1; items that are shown alike are added up together.
    count = np.bincount(times)
    weights = count * (2 * np.cumsum(count) - count - items)
    return float((weights * np.arange(len(count))).sum() / (places * (items - 1)))


def category_diversity(lists_BK: ItemNums, category_N: Ints) -> Floats:
    """(B,) 0 to 1: the share of pairs of a list that are of different categories.

    ``category_N`` is any number per category, 0 for none; items without one are left out. NaN for fewer than two
    items that have one.
    """
    categories_BK = category_N[_checked(lists_BK, len(category_N))]
    categories_BK = np.where(lists_BK == 0, 0, categories_BK)
    rows, places = np.nonzero(categories_BK)
    users = len(lists_BK)
    in_list_B = np.bincount(rows, minlength=users)
    _, dense = np.unique(categories_BK[rows, places], return_inverse=True)
    groups, sizes = np.unique(rows * (dense.max(initial=0) + 1) + dense, return_counts=True)
    owners = groups // (dense.max(initial=0) + 1)
    alike_B: Floats = np.bincount(owners, sizes * (sizes - 1) / 2, minlength=users).astype(float)
    return _share_of_pairs(in_list_B, alike_B)


def vector_diversity(lists_BK: ItemNums, vectors_ND: NDArray[np.float32] | Floats) -> Floats:
    """(B,) 0 to 2: the mean cosine distance of the pairs of a list.

    Items whose vector is zero are left out; NaN for fewer than two others.
    """
    _checked(lists_BK, len(vectors_ND))
    in_list_B = np.zeros(len(lists_BK), dtype=np.int64)
    alike_B = np.zeros(len(lists_BK))
    for start in range(0, len(lists_BK), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        vectors_BKD = vectors_ND[lists_BK[rows]].astype(np.float64)
        norms_BK = np.sqrt(np.einsum("bkd,bkd->bk", vectors_BKD, vectors_BKD))
        has_vector_BK = (norms_BK > 0) & (lists_BK[rows] != 0)
        weights_BK = has_vector_BK / np.where(has_vector_BK, norms_BK, 1.0)
        # |sum of units|^2 is what every item has with every other, both ways, and once with itself.
        sum_BD = np.einsum("bkd,bk->bd", vectors_BKD, weights_BK)
        in_list_B[rows] = has_vector_BK.sum(axis=1)
        alike_B[rows] = (np.einsum("bd,bd->b", sum_BD, sum_BD) - in_list_B[rows]) / 2
    return _share_of_pairs(in_list_B, alike_B)


def novelty(lists_BK: ItemNums, num_users_N: Ints, num_users: int) -> Floats:
    """(B,) bits, 0 to log2(num_users): the mean of -log2 of the share of users who had an item before the cut-off.

    ``num_users_N`` counts those who had it; an item that nobody had counts like one that a single user had. NaN for
    an empty list.

    Raises:
        ContractError: an item was had by more users than there are.
    """
    _checked(lists_BK, len(num_users_N))
    if num_users_N.max(initial=0) > num_users:
        most = int(num_users_N.argmax())
        raise ContractError(
            f"item {most} was had by {num_users_N[most]} of {num_users} users; count users, not events"
        )
    bits_N = -np.log2(np.maximum(num_users_N, 1) / max(num_users, 1))
    return _means(lists_BK, bits_N)


def popularities(lists_BK: ItemNums, histories: Histories, popularity_N: Floats) -> Floats:
    """(B, 2): the mean popularity of a list, and of what the same user had, an item as often as it was had.

    NaN for a user without a list or a history. The lift is the mean of the first over users, divided by that of the
    second, less 1: 0 alike, 0.5 half as popular again.
    """
    _checked(lists_BK, len(popularity_N))
    _same_users(lists_BK, histories)
    known = (histories.item_nums > 0) & (histories.item_nums < len(popularity_N))
    rows = histories.rows[known]
    had_B = np.bincount(rows, minlength=len(histories))
    sums_B = np.bincount(rows, popularity_N[histories.item_nums[known]], minlength=len(histories))
    both_B2 = np.stack([_means(lists_BK, popularity_N), _divided(sums_B, had_B)], axis=1)
    both_B2[np.isnan(both_B2).any(axis=1)] = np.nan
    return both_B2


def repeat_share(lists_BK: ItemNums, histories: Histories) -> Floats:
    """(B,) 0 to 1: the share of a list's places with an item that the user had before; NaN for an empty list."""
    _same_users(lists_BK, histories)
    had = np.unique((histories.rows << 32) + histories.item_nums)
    keys_BK = (np.arange(len(lists_BK), dtype=np.int64)[:, None] << 32) + lists_BK
    again_BK = np.isin(keys_BK, had) & (lists_BK != 0)
    return _divided(again_BK.sum(axis=1), (lists_BK != 0).sum(axis=1))


def _means(lists_BK: ItemNums, values_N: Floats) -> Floats:
    """(B,) mean of the values of the filled places."""
    filled_BK = lists_BK != 0
    return _divided((values_N[lists_BK] * filled_BK).sum(axis=1), filled_BK.sum(axis=1))


def _share_of_pairs(in_list_B: Ints, alike_B: Floats) -> Floats:
    pairs_B = in_list_B * (in_list_B - 1) / 2
    return _divided(pairs_B - alike_B, pairs_B)


def _divided(sums_B: NDArray[np.generic], counts_B: NDArray[np.generic]) -> Floats:
    nothing_B = np.full(len(sums_B), np.nan)
    found: Floats = np.divide(sums_B, counts_B, out=nothing_B, where=counts_B > 0)  # type: ignore[operator]
    return found


def _checked(lists_BK: ItemNums, width: int) -> ItemNums:
    if lists_BK.size and not 0 <= lists_BK.min() <= lists_BK.max() < width:
        raise ContractError(
            f"lists hold item numbers {lists_BK.min()} to {lists_BK.max()}, the catalogue has 1 to {width - 1}; "
            "lists and catalogue must be of one version of the vocabulary"
        )
    return lists_BK


def _same_users(lists_BK: ItemNums, histories: Histories) -> None:
    if len(lists_BK) != len(histories):
        raise ContractError(
            f"{len(lists_BK)} lists and {len(histories)} histories; give those of the same users, in one order"
        )
