"""Intervals by a bootstrap over users; differences are paired: both sides see the same resampled users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.measuring import KINDS, Measured
from recsys.evaluation.ranking import METRICS

Floats = NDArray[np.float64]

PERCENTILES = (2.5, 97.5)
ROUNDS_AT_ONCE = 50


@dataclass(frozen=True)
class Estimate:
    """A mean over users with its 95 % interval; NaN where no user has such targets."""

    value: float
    low: float
    high: float
    num_users: int


@dataclass(frozen=True)
class Bootstrap:
    """Means of every figure over the users, and over each resample of them."""

    measured: Measured
    names: tuple[str, ...]
    means: Floats
    """[recommender, T, M, K]"""
    resampled: Floats
    """[round, recommender, T, M, K]"""

    @classmethod
    def of(cls, measured: Measured, *, rounds: int, seed: int) -> Bootstrap:
        """Resample the users ``rounds`` times."""
        names = tuple(sorted(measured.by_user))
        values = np.stack([measured.by_user[name] for name in names], axis=1)  # [U, R, T, M, K]
        users = len(values)
        if not users:
            nothing = np.full(values.shape[1:], np.nan)
            return cls(measured, names, nothing, nothing[None])
        has_targets = np.isfinite(values[:, 0, :, 0, 0])  # [U, T]
        known = np.where(has_targets[:, None, :, None, None], values, 0.0)
        flat, shape = known.reshape(users, -1), values.shape[1:]
        with np.errstate(invalid="ignore"):
            means = known.sum(axis=0) / has_targets.sum(axis=0)[None, :, None, None]
            rng = np.random.default_rng(seed)
            resampled = np.empty((rounds, *shape))
            for start in range(0, rounds, ROUNDS_AT_ONCE):
                stop = min(start + ROUNDS_AT_ONCE, rounds)
                counts = np.stack([
                    np.bincount(rng.integers(0, users, users), minlength=users)
                    for _ in range(start, stop)
                ]).astype(np.float64)  # fmt: skip
                sums = (counts @ flat).reshape(stop - start, *shape)
                resampled[start:stop] = sums / (counts @ has_targets)[:, None, :, None, None]
        # A NaN that is a user's figure, not a missing target, must show.
        broken = np.isnan(values) & has_targets[:, None, :, None, None]
        means[broken.any(axis=0)] = np.nan
        return cls(measured, names, means, resampled)

    def estimate(self, name: str, kind: str, metric: str, k: int) -> Estimate:
        place = self._place(name, kind, metric, k)
        return self._estimate(self.means[place], self.resampled[:, *place], kind)

    def difference(self, name: str, other: str, kind: str, metric: str, k: int) -> Estimate:
        """``name`` minus ``other``, paired by user."""
        mine, theirs = self._place(name, kind, metric, k), self._place(other, kind, metric, k)
        return self._estimate(
            self.means[mine] - self.means[theirs],
            self.resampled[:, *mine] - self.resampled[:, *theirs],
            kind,
        )

    def _place(self, name: str, kind: str, metric: str, k: int) -> tuple[int, int, int, int]:
        return (
            self.names.index(name), KINDS.index(kind), METRICS.index(metric),
            self.measured.ks.index(k),
        )  # fmt: skip

    def _estimate(self, value: np.float64, resampled: Floats, kind: str) -> Estimate:
        finite = resampled[np.isfinite(resampled)]
        low, high = np.percentile(finite, PERCENTILES) if len(finite) else (np.nan, np.nan)
        return Estimate(float(value), float(low), float(high), self.measured.num_users(kind))
