"""Resamples of users who are never in one place: how often a user is drawn is said by the user's own key.

Drawn with replacement from many users, each comes up about as often as a Poisson variable of mean 1 says, nearly
independently of the others; drawn so from the start, a resample needs no list of all users (Chamandy, Muralidharan,
Najmi and Naidu, Estimating Uncertainty for Massive Data Streams, Google 2012). Sums over a resample add up over parts
of the users, and are the same however the users were parted.

Shape suffixes: U users, R rounds and before them everybody once, W words of 64 bits.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recsys.mixing import GOLDEN, U64, mix64

DRAWS = 1 << 16
"""Counts are read off a table of so many equally likely draws: a mean of 1 to five decimals, and at most 8."""
DRAWS_PER_WORD = 4


def poisson_counts(keys_U: U64, *, rounds: int, seed: int) -> NDArray[np.float64]:
    """(U, 1 + rounds) how often each user is in each resample; the first column is 1, everybody once.

    ``keys_U``: any 64 bits, each user's own.
    """
    words = -(-rounds // DRAWS_PER_WORD)
    starts_U = mix64(mix64(keys_U) ^ mix64(np.full(1, seed, dtype=np.uint64)))
    states_UW = starts_U[:, None] + np.arange(words, dtype=np.uint64) * GOLDEN
    draws_UR = mix64(states_UW).astype("<u8").view("<u2")[:, :rounds]
    counts_UR = np.ones((len(keys_U), 1 + rounds))
    counts_UR[:, 1:] = _count_of_draw()[draws_UR]
    return counts_UR


@cache
def _count_of_draw() -> NDArray[np.uint8]:
    """(DRAWS,) the count of each draw, ascending."""
    middles = (np.arange(DRAWS) + 0.5) / DRAWS
    counts: NDArray[np.uint8] = stats.poisson.ppf(middles, 1.0).astype(np.uint8)
    return counts
