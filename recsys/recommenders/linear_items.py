"""A linear item model in closed form, by blocks.

Shape suffixes: T events of all users, N catalogue (num_items + 1), M items of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import reverse_cuthill_mckee

from recsys.errors import ConfigError
from recsys.recommenders.histories import both_ways
from recsys.recommenders.history_sum import HistorySum
from recsys.recommenders.shop import Histories, Ints

_ROWS = 512
"""Of a block's weights at a time: dense, 512 x 40,000 in float32 are 80 MB."""

_EVENTS = 100_000
"""At a time: X then has some 4 million cells."""


@dataclass
class LinearItems(HistorySum):
    """Ridge regression of each event's item on the events around it, for all items at once.

    An event d places before counts ``decay ** (d - 1)``, one after ``later`` times that. With X the rows of what lies
    around and Y those of what was taken, the weights are ``(X'X + regularisation)^-1 X'Y``: EASE (Steck, WWW 2019)
    with the order of events (as SLIST: Choi et al., WWW 2021); the target is not among its own inputs, so no
    constraint on the diagonal is needed.

    The inverse is that of blocks of at most ``most_in_block`` items which go together: items of different blocks are
    taken to be uncorrelated as inputs, while each still speaks for the items of all blocks. With M items in a block a
    fit costs 2 M^2 N multiplications, items that nobody had aside; of each item's weights the ``kept`` greatest stay.
    """

    later: float = 0.2
    window: int = 20
    regularisation: float = 100.0
    most_in_block: int = 2048
    kept: int = 500

    name: ClassVar[str] = "linear_items"
    about: ClassVar[str] = (
        "a linear model of what is taken next, from all items of the history at once"
    )

    def _weights(self, histories: Histories, num_items: int) -> csr_array:
        squares, products = self._equations(histories, num_items + 1)
        # Of what nobody had all weights are 0: a catalogue costs what it sells.
        met = np.flatnonzero(squares.diagonal() + products.sum(axis=0))
        if not len(met):
            return products
        found = self._solved(squares[met][:, met], products[met][:, met]).tocoo()
        return csr_array((found.data, (met[found.row], met[found.col])), shape=products.shape)

    def _solved(self, squares: csr_array, products: csr_array) -> csr_array:
        order: list[Ints] = []
        parts: list[csr_array] = []
        for block in _blocks(squares, self.most_in_block):
            inverse = _inverse(squares[block][:, block].toarray(), self.regularisation)
            order.append(block)
            parts += self._of_block(inverse, products[block])
        places = np.argsort(np.concatenate(order), kind="stable")
        return csr_array(vstack(parts, format="csr"))[places]

    def _equations(self, histories: Histories, width: int) -> tuple[csr_array, csr_array]:
        """(N, N) X'X and X'Y, float32; of some users at a time, since X has a row per event."""
        squares = products = csr_array((width, width))
        for users in _some_at_a_time(histories):
            around, taken = self._examples(histories.take(users), width)
            turned = csr_array(around.T)
            squares, products = squares + turned @ around, products + turned @ taken
        products.setdiag(0.0)
        products.eliminate_zeros()
        return squares.astype(np.float32), products.astype(np.float32)

    def _examples(self, histories: Histories, width: int) -> tuple[csr_array, csr_array]:
        """(T, N) what lies around each event, and (T, N) what it was."""
        nums = histories.item_nums
        count = len(nums)
        others, events, weights = both_ways(
            histories, most=self.window, fade=self.decay, backwards=self.later
        )
        around = csr_array((weights, (events, nums[others])), shape=(count, width))
        around.eliminate_zeros()
        taken = csr_array((np.ones(count), (np.arange(count), nums)), shape=(count, width))
        return around, taken

    def _of_block(self, inverse: NDArray[np.float32], products: csr_array) -> Iterator[csr_array]:
        """Rows of the weights; a product with the sparse side on the left is the fast one."""
        turned = csr_array(products.T)
        for start in range(0, len(inverse), _ROWS):
            found = np.ascontiguousarray((turned @ inverse[:, start : start + _ROWS]).T)
            yield _greatest(found, self.kept)


def _some_at_a_time(histories: Histories) -> list[Ints]:
    """All users in order, cut where another ``_EVENTS`` events are full."""
    cuts = np.flatnonzero(np.diff(histories.offsets[:-1] // _EVENTS)) + 1
    return np.split(np.arange(len(histories)), cuts)


def _blocks(squares: csr_array, most: int) -> list[Ints]:
    """The items, such as go together beside each other, cut into equal blocks."""
    order = reverse_cuthill_mckee(squares.tocsr(), symmetric_mode=True).astype(np.int64)
    return np.array_split(order, -(-len(order) // most))


def _inverse(squares: NDArray[np.float32], regularisation: float) -> NDArray[np.float32]:
    """(M, M), in place: of a symmetric matrix, positive definite with what is added to its diagonal.

    Raises:
        ConfigError: it is not, since too little is added.
    """
    matrix = np.asfortranarray(squares)
    matrix[np.diag_indices_from(matrix)] += np.float32(regularisation)
    factor, failed = lapack.spotrf(matrix, lower=1, overwrite_a=1, clean=0)
    if failed:
        raise ConfigError(
            f"linear_items: a block of {len(matrix)} items cannot be inverted with regularisation={regularisation:g}; "
            "in float32 it does not tell apart items that users have together: raise it (100 by default)"
        )
    found, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    lower: NDArray[np.float32] = np.tril(found)
    whole: NDArray[np.float32] = lower + np.tril(found, -1).T
    return whole


def _greatest(values: NDArray[Any], count: int) -> csr_array:
    """The ``count`` greatest of each row that are above zero."""
    if count < values.shape[1]:
        least = np.partition(values, -count, axis=1)[:, [-count]]
        values = np.where(values >= least, values, 0)
    return csr_array(np.maximum(values, 0))
