"""What everybody's lists are like apart from being right, as figures with intervals.

Coverage and Gini look at all lists at once, so their intervals are a jackknife's; what is said of each user's list is
averaged and resampled as ranking metrics are.

Shape suffixes: U users, K list places, Q figures, C cut-offs, N catalogue (num_items + 1), G groups of users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.catalogue import FIGURES, HAD, LISTED
from recsys.evaluation.intervals import ByUser, Estimate, Means, jackknifed, resampled_means
from recsys.evaluation.list_quality import Ints, ItemNums, coverage, gini, times_shown
from recsys.evaluation.measuring import Measured

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


def list_figures(measured: Measured, *, rounds: int, seed: int) -> Iterator[ListFigure]:
    """Every figure of every recommender's lists that there is something to say of.

    A shop without categories has no ``category_diversity``.
    """
    by_user = {
        name: ByUser.where_known(
            values_UQC.reshape(len(values_UQC), len(FIGURES) * len(measured.ks))
        )
        for name, values_UQC in sorted(measured.list_values.items())
    }
    for name, means in resampled_means(by_user, rounds=rounds, seed=seed).items():
        for k in measured.ks:
            for metric, estimate in _of_each_list(means, measured.ks, k):
                if estimate.num_users:
                    yield ListFigure(name, metric, k, estimate)
            for metric, estimate in of_all_lists(measured.lists[name][:, :k], measured.allowed_N):
                yield ListFigure(name, metric, k, estimate)


def churn(before_BK: ItemNums, after_BK: ItemNums) -> float:
    """The share of a list that changes, 0 to 1: mean over users of 1 - |both lists have it| / |the longer list|.

    Two empty lists are alike. NaN without users.
    """
    users, places = after_BK.shape
    if not users:
        return np.nan
    alike_BK = [(before_BK[:, [place]] == after_BK) & (after_BK != 0) for place in range(places)]
    kept_B = np.sum(alike_BK, axis=(0, 2))
    longer_B = np.maximum((before_BK != 0).sum(axis=1), (after_BK != 0).sum(axis=1))
    return float(1 - np.mean(np.where(longer_B > 0, kept_B / np.maximum(longer_B, 1), 1.0)))


def coverage_at(measured: Measured, name: str, k: int) -> float:
    times_N = times_shown(measured.lists[name][:, :k], len(measured.allowed_N))
    return coverage(times_N, measured.allowed_N)


def _of_each_list(means: Means, ks: tuple[int, ...], k: int) -> Iterator[tuple[str, Estimate]]:
    def place(figure: str) -> int:
        return FIGURES.index(figure) * len(ks) + ks.index(k)

    for figure in FIGURES:
        if figure not in (LISTED, HAD):
            yield figure, means.at(place(figure))
    # How much more popular than what the same users had: 0 alike, 0.5 half as popular again.
    yield POPULARITY_LIFT, means.ratio(place(LISTED), place(HAD)).less(1.0)


def of_all_lists(
    lists_UK: ItemNums, allowed_N: NDArray[np.bool_]
) -> Iterator[tuple[str, Estimate]]:
    """The figures of ``OF_ALL_LISTS``, with the interval of a delete-a-group jackknife."""
    users, width = len(lists_UK), len(allowed_N)
    groups = min(GROUPS, users)
    times_N = times_shown(lists_UK, width)
    without_G = [
        [of_all(left_N, allowed_N) for of_all in OF_ALL_LISTS.values()]
        for left_N in (times_N - times_shown(lists_UK[g::groups], width) for g in range(groups))
    ]
    for place, (metric, of_all) in enumerate(OF_ALL_LISTS.items()):
        values_G = np.array([values[place] for values in without_G])
        yield metric, jackknifed(of_all(times_N, allowed_N), values_G, users)
