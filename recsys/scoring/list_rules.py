"""Stage 3: rules that look at a list as it fills, so that an item's fate depends on those before it.

Shape suffixes: B users, P places of all lists, L ranks, R rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.scoring.lists import Lists
from recsys.scoring.users import Ints

CELLS = 2_000_000
"""Users x ranks, and users x groups, that are laid out at a time: 16 MB each."""

NEVER_FULL = -(2**62)


@dataclass(frozen=True)
class AtMost:
    """At most ``most`` items of one group in a list."""

    groups: NDArray[np.int32]
    """Group by item number; -1 where unknown, which is never limited."""
    most: int


@dataclass(frozen=True)
class Limited:
    """Lists under the rules, and what the rules did to them."""

    lists: Lists
    left_out_BR: Ints
    """Items that rule r kept out although they stood before the list's end; each counts for one rule."""

    def with_rows(self, rows: Ints, replacements: Limited) -> Limited:
        """The same with the lists of ``rows`` replaced."""
        left_out_BR = self.left_out_BR.copy()
        left_out_BR[rows] = replacements.left_out_BR
        return Limited(self.lists.with_rows(rows, replacements.lists), left_out_BR)


def longest_list(allowed: NDArray[np.bool_], rules: Sequence[AtMost]) -> int:
    """No list of allowed items can be longer under the rules: where it is shorter than n, to look deeper is vain."""
    lengths = [int(allowed.sum())]
    for rule in rules:
        sizes = np.bincount(rule.groups[allowed] + 1, minlength=1)
        lengths.append(int(sizes[0] + np.minimum(sizes[1:], rule.most).sum()))
    return min(lengths)


def under_list_rules(lists: Lists, rules: Sequence[AtMost], n: int) -> Limited:
    """Greedy in list order: an item is taken unless a rule has all it allows of the item's group; ``n`` at most.

    Only items that were taken count: what one rule keeps out uses up no room of another.
    """
    if not rules:
        nothing_B0 = np.zeros((len(lists), 0), dtype=np.int64)
        return Limited(lists.where(lists.ranks <= n), nothing_B0)
    left_out_BR = np.zeros((len(lists), len(rules)), dtype=np.int64)
    taken_P = np.zeros(len(lists.item_nums), dtype=bool)
    step = max(1, CELLS // max(int(lists.lengths.max(initial=0)), 1))
    for start in range(0, len(lists), step):
        users = slice(start, start + step)
        places, left_out_BR[users] = _taken(lists, users, rules, n)
        taken_P[places] = True
    return Limited(lists.where(taken_P), left_out_BR)


def _taken(lists: Lists, users: slice, rules: Sequence[AtMost], n: int) -> tuple[Ints, Ints]:
    """The places that are taken, and ``left_out_BR``; rank by rank, all of these users at once."""
    starts_B, lengths_B = lists.offsets[:-1][users], lists.lengths[users]
    ranks_L1 = np.arange(int(lengths_B.max(initial=0)))[:, None]
    there_LB = ranks_L1 < lengths_B
    places_LB = np.where(there_LB, starts_B + ranks_L1, 0)
    nums_LB = lists.item_nums[places_LB]
    counters = [_counters(np.where(there_LB, rule.groups[nums_LB], -1)) for rule in rules]
    taken_LB = np.zeros_like(there_LB)
    left_out_BR = np.zeros((len(lengths_B), len(rules)), dtype=np.int64)
    room_B = np.full(len(lengths_B), n, dtype=np.int64)
    for rank, there_B in enumerate(there_LB):
        free_B = there_B & (room_B > 0)
        for r, (rule, (keys_LB, counts)) in enumerate(zip(rules, counters, strict=True)):
            full_B = free_B & (counts[keys_LB[rank]] >= rule.most)
            left_out_BR[:, r] += full_B
            free_B &= ~full_B
        for keys_LB, counts in counters:
            counts[keys_LB[rank]] += free_B  # a key is one user's, but for that of unknown groups
        room_B -= free_B
        taken_LB[rank] = free_B
    return places_LB[taken_LB], left_out_BR


def _counters(groups_LB: NDArray[np.int32]) -> tuple[Ints, Ints]:
    """A place to count at for each (user, group), and the counts, all 0; what has no group never gets full."""
    users, width = groups_LB.shape[1], int(groups_LB.max(initial=-1)) + 1
    keys_LB = np.where(groups_LB < 0, 0, 1 + groups_LB + np.arange(users, dtype=np.int64) * width)
    size = 1 + users * width
    if size > CELLS:  # many groups, of which the lists hold few
        found, places = np.unique(np.append(keys_LB, 0), return_inverse=True)
        keys_LB, size = places[:-1].reshape(keys_LB.shape), len(found)
    counts = np.zeros(size, dtype=np.int64)
    counts[0] = NEVER_FULL
    return keys_LB, counts
