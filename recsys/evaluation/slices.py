"""For whom, and for which targets, a recommender is good: NDCG@10 and recall@10 of parts of what was measured.

Users are told apart by the length of their history and by segment. Targets are told apart by how often their item was
bought before the cut-off, by its price, and by whether the shop knew it: a user then counts in each part that they
have a target in, with these targets alone, against the same list.

Shape suffixes: U users, P parts, K list places, N catalogue (num_items + 1), S targets of all users, M metrics,
C cut-offs.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.config.sections import GATE_K
from recsys.evaluation.block import KINDS, Block, People
from recsys.evaluation.intervals import Estimate, Means
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.ranking import METRICS, hits, metrics_by_user

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Bytes = NDArray[np.int8]
Floats = NDArray[np.float64]

SLICED = ("ndcg", "recall")
LENGTHS = (1, 5, 20, 100)
"""Shortest history of each part."""
DECILES, FIFTHS = 10, 5
MOST_SEGMENTS = 20
"""Segments with a part of their own, those with most users; the others share one."""
UNKNOWN, OTHERS = "unknown", "all others"
OF_USERS = ("history_length", "segment")
"""Slices that tell users apart; the others tell targets apart."""


class Part(NamedTuple):
    """A part of a slice: ``history_length`` and ``5-19``, for example."""

    slice: str
    part: str


KNOWN = Part("vocabulary", "known")
COLD = Part("vocabulary", "cold")
"""Targets that the shop did not know at the cut-off: nobody can find them, and they count."""


@dataclass(frozen=True)
class Sliced:
    """Figures of some recommenders by part; parts that somebody is in."""

    parts: tuple[Part, ...]
    num_targets: tuple[int, ...]
    """By part."""
    means: Mapping[str, Means]
    """By recommender; groups are the parts, figures are ``SLICED``."""

    def estimate(self, name: str, part: Part, metric: str) -> Estimate:
        return self.means[name].at(self.parts.index(part), SLICED.index(metric))

    def gain(self, name: str, other: str, part: Part, metric: str = "ndcg") -> Estimate:
        """What ``name`` has more than ``other``, paired by user."""
        gains = self.means[name].less(self.means[other])
        return gains.at(self.parts.index(part), SLICED.index(metric))


class OfBlock(NamedTuple):
    """What a block of users adds to the parts, of one recommender."""

    values_UPM: Floats
    """The figures of ``SLICED``; 0 for who is not in the part."""
    present_UP: Bools
    num_targets_UP: Ints


@dataclass(frozen=True)
class Slicing:
    """Which parts there are: the same for every block of users."""

    segments: tuple[str, ...] = ()
    """With a part of their own; '' are the users without one."""
    decile_N: Bytes = field(default_factory=lambda: np.zeros(0, np.int8))
    """Of the catalogue by buyers, 0 what most people bought; -1 for no item."""
    fifth_N: Bytes = field(default_factory=lambda: np.zeros(0, np.int8))
    """Of the items with a price, 0 the cheapest; -1 for no item, ``FIFTHS`` for one without a price."""

    @classmethod
    def of(cls, segments: Sequence[str], items: ItemFacts) -> Slicing:
        """``segments``: those with most users, at most ``MOST_SEGMENTS``."""
        is_item_N = np.arange(len(items.num_buyers_N)) > 0
        # Ties go by number.
        decile_N = _equal_parts(-items.num_buyers_N.astype(np.float64), is_item_N, DECILES)
        priced_N = is_item_N & np.isfinite(items.price_N)
        fifth_N = _equal_parts(items.price_N, priced_N, FIFTHS)
        fifth_N[is_item_N & ~priced_N] = FIFTHS
        return cls(tuple(segments), decile_N, fifth_N)

    @property
    def parts(self) -> tuple[Part, ...]:
        if not len(self.decile_N):
            return ()
        names = [segment or _free(UNKNOWN, self.segments) for segment in self.segments]
        return (
            *(Part("history_length", name) for name in _LENGTH_NAMES),
            *(Part("segment", name) for name in (*names, _free(OTHERS, self.segments))),
            *(Part("popularity_decile", f"{n + 1}") for n in range(DECILES)),
            *(
                Part("price_fifth", name)
                for name in (*(f"{n + 1}" for n in range(FIFTHS)), UNKNOWN)
            ),
            KNOWN,
            COLD,
        )

    def of_block(
        self, block: Block, names: Sequence[str], ks: tuple[int, ...]
    ) -> dict[str, OfBlock]:
        """Of each of these recommenders, over all purchases; in the order of ``parts``."""
        if not names or not self.parts:
            return {}
        people = block.people
        targets = people.targets
        of_users_UP = np.column_stack([*_by_length(people), *self._by_segment(people)])
        of_items = [
            *_codes(self.decile_N, DECILES),
            *_codes(self.fifth_N, FIFTHS + 1),
            self.decile_N >= 0,
        ]
        rows_S = np.repeat(np.arange(len(people)), np.diff(targets.offsets))
        counts = [
            np.bincount(rows_S[in_part_N[targets.item_nums]], minlength=len(people))
            for in_part_N in of_items
        ]
        counts.append(targets.counts - np.diff(targets.offsets))  # those that the shop did not know
        counts_UP = np.column_stack(counts)
        present_UP = np.concatenate([of_users_UP, counts_UP > 0], axis=1)
        num_targets_UP = np.concatenate([targets.counts[:, None] * of_users_UP, counts_UP], axis=1)
        found = {}
        for name in names:
            whole_UM = _sliced(block.by_user[name][:, KINDS.index("all")], ks.index(GATE_K))
            of_users_UPM = whole_UM[:, None] * of_users_UP[:, :, None]
            of_targets_UPM = _of_targets(block, name, of_items, counts)
            values_UPM = np.concatenate([of_users_UPM, of_targets_UPM], axis=1)
            found[name] = OfBlock(values_UPM, present_UP, num_targets_UP)
        return found

    def _by_segment(self, people: People) -> list[Bools]:
        segments = np.array(people.segments, dtype=object)
        own = [segments == segment for segment in self.segments]
        return [*own, ~np.logical_or.reduce([np.zeros(len(people), dtype=bool), *own])]


def _of_targets(block: Block, name: str, of_items: list[Bools], counts: list[Ints]) -> Floats:
    """(U, P, M); ``counts`` has one part more, the last, which no item is in."""
    targets = block.people.targets
    lists_UK = block.lists[name][:, :GATE_K]
    hits_UK = hits(lists_UK, targets.offsets, targets.item_nums)
    in_part = [hits_UK & in_part_N[lists_UK] for in_part_N in of_items]
    values = [
        _sliced(metrics_by_user(found_UK, counts_U, (GATE_K,)), 0)
        for found_UK, counts_U in zip((*in_part, np.zeros_like(hits_UK)), counts, strict=True)
    ]
    return np.nan_to_num(np.stack(values, axis=1))


_LENGTH_NAMES = tuple(
    f"{shortest}-{longer - 1}" if longer else f"{shortest}+"
    for shortest, longer in zip(LENGTHS, (*LENGTHS[1:], None), strict=True)
)


def _by_length(people: People) -> list[Bools]:
    bounds = (*LENGTHS, np.inf)
    length_U = people.num_events_U
    return [(low <= length_U) & (length_U < high) for low, high in pairwise(bounds)]


def _free(name: str, taken: Container[str]) -> str:
    """``name``, in brackets where a shop calls a segment so: both are parts."""
    while name in taken:
        name = f"({name})"
    return name


def _codes(code_N: Bytes, codes: int) -> list[Bools]:
    return [code_N == code for code in range(codes)]


def _equal_parts(values_N: Floats, of_these_N: Bools, parts: int) -> Bytes:
    """(N,) 0 to parts - 1 by ascending value, as many items in each; -1 for the others. Ties go by number."""
    nums = np.flatnonzero(of_these_N)
    ascending = nums[np.argsort(values_N[nums], kind="stable")]
    part_N = np.full(len(values_N), -1, dtype=np.int8)
    part_N[ascending] = np.arange(len(nums)) * parts // max(len(nums), 1)
    return part_N


def _sliced(values_UMC: Floats, cut_off: int) -> Floats:
    """(U, metric) of ``SLICED``."""
    return values_UMC[:, [METRICS.index(metric) for metric in SLICED], cut_off]
