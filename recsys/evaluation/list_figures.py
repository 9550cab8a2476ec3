"""What everybody's lists are like apart from being right, as figures with intervals.

Coverage and Gini look at all lists at once, so their intervals are a jackknife's; what is said of each user's list is
averaged and resampled as ranking metrics are.

Shape suffixes: U users, K list places, N catalogue (num_items + 1), G groups of users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.catalogue import FIGURES, HAD, LISTED
from recsys.evaluation.intervals import Estimate, Floats, Means, jackknifed
from recsys.evaluation.list_quality import Ints, ItemNums, coverage, gini, times_shown

COVERAGE = "coverage"
POPULARITY_LIFT = "popularity_lift"
OF_ALL_LISTS: dict[str, Callable[[Ints, NDArray[np.bool_]], float]] = {
    COVERAGE: coverage,
    "gini": gini,
}
GROUPS = 20
"""Of the jackknife."""


class ListFigure(NamedTuple):
    recommender: str
    metric: str
    k: int
    estimate: Estimate


def changes(before_UK: ItemNums, after_UK: ItemNums) -> Floats:
    """(U,) the share of each list that changes, 0 to 1: 1 - |both lists have it| / |the longer list|.

    Two empty lists are alike.
    """
    alike_UK = [
        (before_UK[:, [place]] == after_UK) & (after_UK != 0) for place in range(after_UK.shape[1])
    ]
    kept_U = np.sum(alike_UK, axis=(0, 2))
    longer_U = np.maximum((before_UK != 0).sum(axis=1), (after_UK != 0).sum(axis=1))
    return np.where(longer_U > 0, 1 - kept_U / np.maximum(longer_U, 1), 0.0)


def of_each_list(means: Means, ks: tuple[int, ...], k: int) -> Iterator[tuple[str, Estimate]]:
    """Every figure that there is something to say of: a shop without categories has no ``category_diversity``.

    ``means`` has a group per figure of ``catalogue.FIGURES`` and cut-off.
    """

    def place(figure: str) -> int:
        return FIGURES.index(figure) * len(ks) + ks.index(k)

    found = [(figure, means.at(place(figure))) for figure in FIGURES if figure not in (LISTED, HAD)]
    # How much more popular than what the same users had: 0 alike, 0.5 half as popular again.
    found.append((POPULARITY_LIFT, means.ratio(place(LISTED), place(HAD)).less(1.0)))
    return ((figure, estimate) for figure, estimate in found if estimate.num_users)


def of_all_lists(
    lists_UK: ItemNums, allowed_N: NDArray[np.bool_]
) -> Iterator[tuple[str, Estimate]]:
    """The figures of ``OF_ALL_LISTS`` of lists that are all here."""
    users = len(lists_UK)
    groups = [lists_UK[g :: min(GROUPS, users)] for g in range(min(GROUPS, users))] or [lists_UK]
    times_GN = np.stack([times_shown(group_UK, len(allowed_N)) for group_UK in groups])
    return figures_of_all_lists(times_GN, allowed_N, np.array([len(one) for one in groups]))


def figures_of_all_lists(
    times_GN: NDArray[np.int64] | NDArray[np.int32], allowed_N: NDArray[np.bool_], users_G: Ints
) -> Iterator[tuple[str, Estimate]]:
    """The figures of ``OF_ALL_LISTS``, with the interval of a delete-a-group jackknife.

    ``times_GN``: in how many lists of each group of users an item is; ``users_G``: how many users these are, some
    in each group. Where the lists show most of what there is, the interval is wider than one of 95 % need be.
    """
    times_N = times_GN.sum(axis=0, dtype=np.int64)
    for metric, of_all in OF_ALL_LISTS.items():
        without_G = np.array([of_all(times_N - group_N, allowed_N) for group_N in times_GN])
        yield metric, jackknifed(of_all(times_N, allowed_N), without_G, users_G)
