"""For whom, and for which targets, a recommender is good: NDCG@10 and recall@10 of parts of what was measured.

Users are told apart by the length of their history and by segment. Targets are told apart by how often their item was
bought before the cut-off, by its price, and by whether the shop knew it: a user then counts in each part that they
have a target in, with these targets alone, against the same list.

Shape suffixes: U users, P parts, K list places, N catalogue (num_items + 1), S targets of all users, M metrics.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
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
    names: tuple[str, ...] = ()
    """What the parts of the segments are called, and the part of all others last."""
    of_targets: Mapping[Part, Bools] | None = None
    """(N,) the items in each; ``COLD`` has none that a list could hold."""

    @classmethod
    def of(cls, users_of_segment: Mapping[str, int], items: ItemFacts) -> Slicing:
        """``users_of_segment``: of everybody who is measured."""
        most_users = sorted(
            users_of_segment, key=lambda segment: (-users_of_segment[segment], segment)
        )
        own = tuple(most_users[:MOST_SEGMENTS])
        unknown, others = _free(UNKNOWN, users_of_segment), _free(OTHERS, users_of_segment)
        names = (*(segment or unknown for segment in own), others)
        return cls(own, names, _parts_of_targets(items))

    @property
    def parts(self) -> tuple[Part, ...]:
        if self.of_targets is None:
            return ()
        lengths = [Part("history_length", name) for name in _LENGTH_NAMES]
        segments = [Part("segment", name) for name in self.names]
        return (*lengths, *segments, *self.of_targets)

    def of_block(self, block: Block, name: str, ks: tuple[int, ...]) -> OfBlock:
        """Of the recommender ``name``, over all purchases."""
        people = block.people
        targets = people.targets
        of_users_UP = np.column_stack([*_by_length(people), *self._by_segment(people)])
        whole_UM = _sliced(block.by_user[name][:, KINDS.index("all")], ks.index(GATE_K))
        values = [whole_UM[:, None, :] * of_users_UP[:, :, None]]
        num_targets = [targets.counts[:, None] * of_users_UP]
        present = [of_users_UP]
        lists_UK = block.lists[name][:, :GATE_K]
        hits_UK = hits(lists_UK, targets.offsets, targets.item_nums)
        for part, in_part_N in (self.of_targets or {}).items():
            counts_U = _num_targets(people, part, in_part_N)
            found = metrics_by_user(hits_UK & in_part_N[lists_UK], counts_U, (GATE_K,))
            values.append(np.where(counts_U[:, None] > 0, _sliced(found, 0), 0.0)[:, None, :])
            num_targets.append(counts_U[:, None])
            present.append(counts_U[:, None] > 0)
        return OfBlock(*(np.concatenate(one, axis=1) for one in (values, present, num_targets)))

    def _by_segment(self, people: People) -> list[Bools]:
        segments = np.array(people.segments, dtype=object)
        own = [segments == segment for segment in self.segments]
        return [*own, ~np.logical_or.reduce([np.zeros(len(people), dtype=bool), *own])]


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


def _parts_of_targets(items: ItemFacts) -> dict[Part, Bools]:
    everything_N = np.arange(len(items.num_buyers_N)) > 0
    # Deciles of the catalogue, the first has what most people bought; ties go by number.
    decile_N = _equal_parts(-items.num_buyers_N.astype(np.float64), everything_N, DECILES)
    known_N = everything_N & np.isfinite(items.price_N)
    fifth_N = _equal_parts(items.price_N, known_N, FIFTHS)
    return {
        **{Part("popularity_decile", f"{n + 1}"): decile_N == n for n in range(DECILES)},
        **{Part("price_fifth", f"{n + 1}"): fifth_N == n for n in range(FIFTHS)},
        Part("price_fifth", UNKNOWN): everything_N & ~known_N,
        Part("vocabulary", "known"): everything_N,
        COLD: np.zeros(len(everything_N), dtype=bool),
    }


def _num_targets(people: People, part: Part, in_part_N: Bools) -> Ints:
    """(U,) targets in the part."""
    targets = people.targets
    if part == COLD:
        cold_U: Ints = targets.counts - np.diff(targets.offsets)
        return cold_U
    rows_S = np.repeat(np.arange(len(people)), np.diff(targets.offsets))
    counts_U: Ints = np.bincount(rows_S[in_part_N[targets.item_nums]], minlength=len(people))
    return counts_U


def _equal_parts(values_N: Floats, of_these_N: Bools, parts: int) -> Ints:
    """(N,) 0 to parts - 1 by ascending value, as many items in each; -1 for the others. Ties go by number."""
    nums = np.flatnonzero(of_these_N)
    ascending = nums[np.argsort(values_N[nums], kind="stable")]
    part_N = np.full(len(values_N), -1, dtype=np.int64)
    part_N[ascending] = np.arange(len(nums)) * parts // max(len(nums), 1)
    return part_N


def _sliced(values_UMC: Floats, cut_off: int) -> Floats:
    """(U, metric) of ``SLICED``."""
    return values_UMC[:, [METRICS.index(metric) for metric in SLICED], cut_off]
