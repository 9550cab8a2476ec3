"""Stage 1 with nothing but vectors: the largest inner products.

Shape suffixes: B users, D embedding width, M places of a list.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.scoring.select import (
    PADDING,
    Asked,
    Best,
    Rows,
    Vectors,
    in_float32,
    library,
    rounding,
    select,
)


def top_items(
    user_BD: NDArray[np.float32], items: NDArray[np.float32], m: int, *, largest: float, threads: int = 1
) -> Best:  # fmt: skip
    """The ``m`` items of the largest inner product with each user: stage 1 with nothing but vectors.

    Ranked by products in float64, ties to the smaller number; scores are those products in float32.
    ``largest`` is ``largest_norm(items)``.

    Raises:
        RuntimeError: the kernel is not there.
    """
    kernel = library()
    if kernel is None:
        raise RuntimeError("scoring's compiled kernel is not there; `make setup` builds it")
    return select(kernel, vectors_alone(user_BD, items, m, largest=largest), threads=threads)


def vectors_alone(
    user_BD: NDArray[np.float32], items: NDArray[np.float32], m: int, *, largest: float
) -> Asked:
    """What ``top_items`` asks."""
    users, width = len(user_BD), len(items)
    exact_BD = user_BD.astype(np.float64)
    size_B = np.sqrt(np.einsum("bd,bd->b", exact_BD, exact_BD)) * largest
    factor_B = np.divide(1.0, size_B, out=np.zeros(users), where=size_B > 0)
    scaled_BD, slack_B = in_float32(factor_B[:, None] * exact_BD, largest)
    base = np.full(width + PADDING, -np.inf, np.float32)
    base[:width] = 0
    nothing_B, first_B = np.zeros(users), np.zeros(users, np.int64)
    return Asked(
        width=width, m=m, margin_B=2 * (slack_B + rounding(items.shape[1])),
        bases=Rows([base], first_B), shares=Rows([np.zeros(width)], first_B),
        popular_weight_B=nothing_B,
        vectors=Vectors(
            scaled_BD, exact_BD, nothing_B, np.ones(users), np.ascontiguousarray(items), 1.0
        ),
    )  # fmt: skip


def largest_norm(items: NDArray[np.float32]) -> float:
    squares = np.einsum("nd,nd->n", items, items, dtype=np.float64)
    return float(np.sqrt(squares.max(initial=0.0)))
