"""Intervals by a bootstrap over users; differences are paired: both sides see the same resampled users.

A figure of the whole shop's lists, such as coverage, is no mean over users: a resample with replacement leaves out a
third of them, so its coverage lies below the figure. Its interval is that of a delete-a-group jackknife (Kott, Journal
of Official Statistics 17(4), 2001), with groups of any size (Busing and others, Statistics and Computing 9, 1999).

What is in one process is resampled here; sums over the users of a cluster: ``poisson``.

Shape suffixes: U users, G groups of users, X figures of a group, K rounds of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

PERCENTILES = (2.5, 97.5)
SURE = 0.95
CELLS_AT_ONCE = 1 << 22
"""Counts of users, of all rounds that are made together: 34 MB."""


@dataclass(frozen=True)
class Estimate:
    """A mean over users with its 95 % interval; NaN where no user has such targets."""

    value: float
    low: float
    high: float
    num_users: int

    def less(self, amount: float) -> Estimate:
        return replace(
            self, value=self.value - amount, low=self.low - amount, high=self.high - amount
        )


@dataclass(frozen=True)
class ByUser:
    """What is averaged over each of G groups of users, who may overlap. It is not copied."""

    values_UGX: Floats
    """0 where a user is not in the group; NaN where a figure is broken, which shows in the mean."""
    present_UG: NDArray[np.bool_]

    @classmethod
    def where_known(cls, values_UG: Floats) -> ByUser:
        """Each figure over the users who have it: NaN says that there is nothing to say."""
        known_UG = np.isfinite(values_UG)
        return cls(np.where(known_UG, values_UG, 0.0)[:, :, None], known_UG)


@dataclass(frozen=True)
class Means:
    """Means over each group, of all users and of every resample of them. NaN for a group without users."""

    values_GX: Floats
    by_round_KGX: Floats
    num_users_G: NDArray[np.int64]

    @classmethod
    def of_sums(cls, values_KGX: Floats, users_KG: Floats) -> Means:
        """From what was added up over all users, first once each and then as often as each resample has them."""
        with np.errstate(invalid="ignore"):
            means_KGX = values_KGX / users_KG[:, :, None]
        return cls(means_KGX[0], means_KGX[1:], users_KG[0].astype(np.int64))

    def at(self, group: int, figure: int = 0) -> Estimate:
        return Estimate(
            float(self.values_GX[group, figure]),
            *interval(self.by_round_KGX[:, group, figure]),
            int(self.num_users_G[group]),
        )

    def less(self, other: Means) -> Means:
        """The difference, paired by user: both are of the same users and the same resamples."""
        values_GX = self.values_GX - other.values_GX
        return Means(values_GX, self.by_round_KGX - other.by_round_KGX, self.num_users_G)

    def ratio(self, over: int, under: int, figure: int = 0) -> Estimate:
        """The mean of one group divided by that of another, NaN where that is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = self.values_GX[over, figure] / self.values_GX[under, figure]
            by_round_K = self.by_round_KGX[:, over, figure] / self.by_round_KGX[:, under, figure]
        users = int(self.num_users_G[over])
        return Estimate(
            float(value) if np.isfinite(value) else np.nan, *interval(by_round_K), users
        )


def stretched(found: Estimate, *, of: int) -> Estimate:
    """The interval for one of so many comparisons, all of which hold together (Bonferroni), from that for one alone.

    Both arms are lengthened as those of a normal mean would be: 1,000 resamples have no percentile so far out.
    """
    longer = stats.norm.isf((1 - SURE) / 2 / of) / stats.norm.isf((1 - SURE) / 2)
    low = found.value - longer * (found.value - found.low)
    high = found.value + longer * (found.high - found.value)
    return replace(found, low=float(low), high=float(high))


def resampled_means(figures: Mapping[str, ByUser], *, rounds: int, seed: int) -> dict[str, Means]:
    """The means of each, over the same ``rounds`` resamples of the same users."""
    found = {}
    for name, one in figures.items():
        _, groups, width = one.values_UGX.shape
        by_round = np.empty((rounds, groups, width))
        everybody = np.ones((1, len(one.present_UG)))
        found[name] = Means(_means(one, everybody)[0], by_round, one.present_UG.sum(axis=0))
    users = len(next(iter(figures.values())).present_UG) if figures else 0
    for start, counts_KU in resamples(users, rounds, seed):
        for name, one in figures.items():
            found[name].by_round_KGX[start : start + len(counts_KU)] = _means(one, counts_KU)
    return found


def jackknifed(value: float, without_G: Floats, users_G: NDArray[np.int64]) -> Estimate:
    """``value`` with the interval that its values without each of G groups of so many users give it.

    What leaving out a group changes is set against how large the group is: 20 users more than a multiple of 20 do not
    make the interval wider. NaN for an interval of fewer than two groups.
    """
    groups, num_users = len(without_G), int(users_G.sum())
    if groups < 2:  # noqa: PLR2004 (two groups: with one there is nothing to compare)
        return Estimate(value, np.nan, np.nan, num_users)
    rest_G = num_users / users_G - 1
    centre = groups * value - (rest_G / (rest_G + 1) * without_G).sum()
    pseudo_G = (rest_G + 1) * value - rest_G * without_G
    variance = ((pseudo_G - centre) ** 2 / rest_G).mean()
    half = float(stats.t.ppf((1 + SURE) / 2, groups - 1) * np.sqrt(variance))
    return Estimate(value, value - half, value + half, num_users)


def resamples(
    users: int, rounds: int, seed: int, *, row_cells: int = 0
) -> Iterator[tuple[int, Floats]]:
    """(first round, how often each user was drawn in it and those after it), a few rounds at a time.

    ``row_cells``: how many numbers a round of theirs takes whoever asks; at least one per user.
    """
    draw = np.random.default_rng(seed)
    at_once = max(1, min(rounds, CELLS_AT_ONCE // max(users, row_cells, 1)))
    for start in range(0, rounds, at_once):
        counts_KU = np.zeros((min(at_once, rounds - start), users))
        for row_U in counts_KU if users else ():
            row_U[:] = np.bincount(draw.integers(0, users, users), minlength=users)
        yield start, counts_KU


def _means(one: ByUser, counts_KU: Floats) -> Floats:
    """(K, G, X)"""
    users, groups, width = one.values_UGX.shape
    sums_KGX = (counts_KU @ one.values_UGX.reshape(users, groups * width)).reshape(
        -1, groups, width
    )
    with np.errstate(invalid="ignore"):
        found: Floats = sums_KGX / (counts_KU @ one.present_UG)[:, :, None]
    return found


def interval(resampled_K: Floats) -> tuple[float, float]:
    """The ends of the 95 % interval; NaN where no resample has a figure."""
    finite_K = resampled_K[np.isfinite(resampled_K)]
    if not len(finite_K):
        return np.nan, np.nan
    low, high = np.percentile(finite_K, PERCENTILES)
    return float(low), float(high)
