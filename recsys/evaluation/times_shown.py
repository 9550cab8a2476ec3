"""How often items are shown, for the figures of all lists at once: coverage and Gini with a jackknife's intervals.

Shape suffixes: U users, K list places, N catalogue (num_items + 1), G groups of users.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.intervals import Estimate
from recsys.evaluation.list_figures import GROUPS, figures_of_all_lists
from recsys.evaluation.list_quality import Ints, ItemNums

COMPACTED = 1 << 20
"""Places of lists that are held before they are counted: 16 MB with their counts."""


class TimesShown:
    """In how many lists of each group of users an item is, between one cut-off and the next.

    Counted as pairs of a key and its count, which is as much as the lists show, not as large as the catalogue. In
    place of item 0, which is nowhere, it is told how many users a group has.
    """

    def __init__(self, width: int, ks: tuple[int, ...]) -> None:
        """``width`` of the catalogue."""
        self._width, self._ks = width, ks
        self._keys, self._counts = np.zeros((2, 0), dtype=np.int64)
        self._pending: list[Ints] = []

    def add(self, group_U: Ints, lists_UK: ItemNums) -> None:
        band_K = np.searchsorted(self._ks, np.arange(max(self._ks)), side="right")
        keys_UK = (band_K * GROUPS + group_U[:, None]) * self._width + lists_UK
        self._pending += [keys_UK[lists_UK != 0], group_U * self._width]
        # As much again as is there: each count is then sorted a few times, however many there are.
        if sum(map(len, self._pending)) > max(COMPACTED, len(self._keys)):
            self.pairs()

    def pairs(self) -> tuple[Ints, Ints]:
        """Keys, ascending, and the count of each."""
        new = np.concatenate([np.zeros(0, dtype=np.int64), *self._pending])
        keys, places = np.unique(np.concatenate([self._keys, new]), return_inverse=True)
        counts = np.zeros(len(keys), dtype=np.int64)
        np.add.at(counts, places, np.concatenate([self._counts, np.ones(len(new), np.int64)]))
        self._keys, self._counts, self._pending = keys, counts, []
        return keys, counts


def shop_figures(
    keys: Ints, counts: Ints, allowed_N: NDArray[np.bool_], ks: Sequence[int]
) -> list[dict[str, Estimate]]:
    """Coverage and Gini by cut-off, from ``TimesShown.pairs`` of any parts of the users, one after the other."""
    width = len(allowed_N)
    times_GN = np.zeros((GROUPS, width), dtype=np.int32)
    users_G = np.zeros(GROUPS, dtype=np.int64)
    bands, places = np.divmod(keys, GROUPS * width)
    found = []
    for band in range(len(ks)):
        mine = bands == band
        np.add.at(times_GN.reshape(-1), places[mine], counts[mine].astype(np.int32))
        users_G += times_GN[:, 0]
        times_GN[:, 0] = 0
        there_G = users_G > 0
        shown_GN = times_GN if there_G.all() else times_GN[there_G]
        found.append(dict(figures_of_all_lists(shown_GN, allowed_N, users_G[there_G])))
    return found
