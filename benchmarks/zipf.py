"""Ids as popular as Zipf's law has them, truncated at the number of rows, without an array of all rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EXPONENT = 1.05


def zipf(draw: np.random.Generator, shape: int | tuple[int, ...], rows: int) -> NDArray[np.int64]:
    """0 to rows - 1, the first the most frequent, by the inverse of the continuous distribution function."""
    tail = 1 - EXPONENT
    places = ((rows + 1.0) ** tail - 1) * draw.random(shape) + 1
    ids: NDArray[np.int64] = np.minimum(places ** (1 / tail), rows).astype(np.int64) - 1
    return ids
