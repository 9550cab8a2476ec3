"""Numbers that look drawn at random, from numbers that do not: the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix64(values: U64) -> U64:
    """The number that splitmix64 (Steele, Lea and Flood, OOPSLA 2014) draws in each state; one to one.

    States that are ``GOLDEN`` apart, modulo 2^64, follow each other.
    """
    mixed = values + GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
