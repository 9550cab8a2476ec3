"""What the learned blend learns: how much each part counts for whom (see ``blend``).

Shape suffixes: B users, N catalogue (num_items + 1), C channels, F features of a user, P candidates of all users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import structlog
from numpy.typing import NDArray
from scipy.optimize import minimize

from recsys.recommenders.shop import Floats, Ints, Scores

log = structlog.get_logger()

NUM_FEATURES = 4
"""F: a channel's weights."""
PRIOR_USERS = 2.0
"""How strongly the weights are drawn to even ones, as if by so many users: few users do not turn a part round."""
STEPS = (0.7, 0.85, 1.2, 1.5, 0.0)
"""What a weight is multiplied with when NDCG is climbed."""
MOST_ROUNDS = 3
SMALLEST_SPREAD = 1e-9
K = 10


@dataclass(frozen=True)
class Channel:
    """A part, as it is or by its logarithm."""

    part: str
    scale: float
    """0: as it is; else log1p(score * scale), of a part that is never negative."""
    spread: float
    """Mean over users of the spread of their scores."""


@dataclass(frozen=True)
class Weights:
    """What was learned."""

    channels: tuple[Channel, ...]
    values_CF: Floats
    """Columns: by z-score, the same times l_u, by own certainty, the same times l_u."""

    def as_json(self) -> dict[str, object]:
        return {
            "channels": [vars(channel) for channel in self.channels],
            "values": self.values_CF.tolist(),
        }

    @classmethod
    def from_json(cls, read: Mapping[str, object]) -> Weights:
        channels: Sequence[dict[str, object]] = read["channels"]  # type: ignore[assignment]
        return cls(tuple(Channel(**channel) for channel in channels), np.array(read["values"]))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Candidates:
    """What the parts would show, and what of it was taken, for users to whom some part would have shown something."""

    counts: Ints
    """(B,), candidates of each user."""
    scores_PC: NDArray[np.float32]
    """Less the user's mean."""
    spread_BC: Floats
    lengths: Ints
    is_target_P: NDArray[np.bool_]
    """At least one of each user is."""
    num_targets: Ints
    """(B,), those that no part would show too."""

    @classmethod
    def joined(cls, found: Sequence[Candidates]) -> Candidates:
        """One after the other."""
        columns = (field.name for field in fields(cls))
        return cls(*(np.concatenate([getattr(one, name) for one in found]) for name in columns))

    @cached_property
    def starts(self) -> Ints:
        """(B,), the place of each user's first candidate."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def row_P(self) -> Ints:
        return np.repeat(np.arange(len(self.counts)), self.counts)


def learned(found: Candidates, channels: Sequence[Channel]) -> Floats:
    """(C, F): the weights that fit the candidates best; a line of the log says how well."""
    of_user_BF = user_features(found.lengths)
    spread_C = np.array([channel.spread for channel in channels])
    inverse_BC = np.divide(
        1.0, found.spread_BC, out=np.zeros_like(found.spread_BC), where=found.spread_BC > SMALLEST_SPREAD
    )  # fmt: skip
    by_BCF = np.stack(
        [inverse_BC, inverse_BC * of_user_BF[:, 1:], np.broadcast_to(1 / spread_C, inverse_BC.shape),
         of_user_BF[:, 1:] / spread_C], axis=2,
    )  # fmt: skip
    starts, row_P = found.starts, found.row_P
    num_users = len(starts)
    shape = (len(channels), by_BCF.shape[2])
    target_P = np.flatnonzero(found.is_target_P)
    of_target = row_P[target_P]
    share_of_target = 1.0 / np.bincount(of_target)[of_target]  # every user counts as one
    measure = Ndcg.of(found)

    def sums_of(weights_CF: Floats) -> NDArray[np.float32]:
        factor_BC = np.einsum("bcf,cf->bc", by_BCF, weights_CF).astype(np.float32)
        sum_P: NDArray[np.float32] = np.einsum("pc,pc->p", found.scores_PC, factor_BC[row_P])
        return sum_P

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights_CF = flat.reshape(shape)
        sum_P = sums_of(weights_CF).astype(np.float64)
        sum_P -= np.maximum.reduceat(sum_P, starts)[row_P]
        exp_P = np.exp(sum_P)
        total_B = np.add.reduceat(exp_P, starts)
        taken_B = np.bincount(of_target, share_of_target * sum_P[target_P])
        value = float(np.mean(np.log(total_B) - taken_B))
        excess_P = exp_P / total_B[row_P]
        excess_P[target_P] -= share_of_target
        by_user_BC = np.add.reduceat(found.scores_PC * excess_P[:, None].astype(np.float32), starts)
        gradient_CF = np.einsum("bc,bcf->cf", by_user_BC, by_BCF) / num_users
        astray = flat - start
        ridge = PRIOR_USERS / num_users
        return value + ridge * float(astray @ astray), gradient_CF.ravel() + 2 * ridge * astray

    start = even(len(channels)).ravel()
    fitted = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 150})

    best_CF: Floats = fitted.x.reshape(shape)
    by_likelihood = best = measure(sums_of(best_CF))
    for _ in range(MOST_ROUNDS):
        before = best
        for index in np.ndindex(shape):
            for step in STEPS:
                tried_CF = best_CF.copy()
                tried_CF[index] *= step
                if (value := measure(sums_of(tried_CF))) > best:
                    best, best_CF = value, tried_CF
        if best <= before:
            break
    log.info(
        "blend_learned", users=num_users, candidates=len(row_P), ndcg_by_likelihood=round(by_likelihood, 5),
        ndcg=round(best, 5),
    )  # fmt: skip
    return best_CF


@dataclass(frozen=True)
class Ndcg:
    """Mean NDCG@K of the candidates, as sums order them. Shape suffix: W the most candidates of a user.

    Ties go against what was taken: weights under which all is equal find nothing.
    """

    row_P: Ints
    column_P: Ints
    target_P: Ints
    ideal_B: Floats
    width: int

    @classmethod
    def of(cls, found: Candidates) -> Ndcg:
        gains_K = 1.0 / np.log2(np.arange(2.0, K + 2))
        ideal_B = np.cumsum(gains_K)[np.minimum(found.num_targets, K) - 1]
        column_P = np.arange(len(found.row_P)) - found.starts[found.row_P]
        target_P = np.flatnonzero(found.is_target_P)
        return cls(found.row_P, column_P, target_P, ideal_B, max(int(found.counts.max()), K + 1))

    def __call__(self, sum_P: NDArray[np.float32]) -> float:
        sum_BW = np.full((len(self.ideal_B), self.width), -np.inf, dtype=np.float32)
        sum_BW[self.row_P, self.column_P] = sum_P
        # One more than counts: of a target at place K it tells whether others stand there as well.
        first_BK = np.partition(sum_BW, self.width - K - 1, axis=1)[:, -K - 1 :]
        row_T, sum_T = self.row_P[self.target_P], sum_P[self.target_P]
        rank_T = (first_BK[row_T] >= sum_T[:, None]).sum(axis=1)
        gain_T = np.where(rank_T <= K, 1.0 / np.log2(rank_T + 1.0), 0.0)
        return float((np.bincount(row_T, gain_T) / self.ideal_B).mean())


def even(num_channels: int) -> Floats:
    """(C, F): the mean of all z-scores."""
    values_CF = np.zeros((num_channels, NUM_FEATURES))
    values_CF[:, 0] = 1.0 / max(num_channels, 1)
    return values_CF


def factors(weights_F: Floats, of_user_BF: Floats, spread_B: Floats, spread: float) -> Floats:
    """(B,): what a channel's centred scores are multiplied with."""
    own_B: Floats = np.divide(
        1.0, spread_B, out=np.zeros_like(spread_B), where=spread_B > SMALLEST_SPREAD
    )
    length_B = of_user_BF[:, 1]
    factor_B: Floats = (weights_F[0] + weights_F[1] * length_B) * own_B
    factor_B += (weights_F[2] + weights_F[3] * length_B) / spread
    return factor_B


def user_features(lengths: Ints) -> Floats:
    """(B, 2): 1, and how long the history is: 0 at seven events, 1 at about twenty."""
    return np.stack([np.ones(len(lengths)), np.log1p(lengths) - np.log(8.0)], axis=1)


def centred(scores_BN: Scores, scale: float) -> tuple[Scores, Floats]:
    """Scores less the user's mean over the catalogue, and their spread; of the logarithm where ``scale`` > 0.

    That of a score below 0 is that of 0: that a part is never negative was seen on a sample of users.
    """
    values_BN = scores_BN * np.float32(scale) if scale else scores_BN.copy()
    if scale:
        np.maximum(values_BN, 0, out=values_BN)
        np.log1p(values_BN, out=values_BN)
    values_BN[:, 0] = 0
    items = max(values_BN.shape[1] - 1, 1)
    mean_B = values_BN.sum(axis=1, dtype=np.float64) / items
    values_BN -= mean_B.astype(np.float32)[:, None]
    values_BN[:, 0] = 0
    spread_B = np.sqrt(np.einsum("bn,bn->b", values_BN, values_BN, dtype=np.float64) / items)
    return values_BN, spread_B
