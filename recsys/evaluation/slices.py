"""For whom, and for which targets, a recommender is good: NDCG@10 and recall@10 of parts of what was measured.

Users are told apart by the length of their history and by segment. Targets are told apart by how often their item was
bought before the cut-off, by its price, and by whether the shop knew it: a user then counts in each part that they
have a target in, with these targets alone, against the same list.

Shape suffixes: U users, P parts, K list places, N catalogue (num_items + 1), S targets of all users, M metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.config.sections import GATE_K
from recsys.evaluation.intervals import ByUser, Estimate, Means, resampled_means
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.measuring import Measured, People
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
    """Figures of some recommenders by part."""

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


def slices(
    measured: Measured, items: ItemFacts, names: Sequence[str], *, rounds: int, seed: int
) -> Sliced:
    """Of the recommenders ``names``, over all purchases, by every part that somebody is in."""
    people = measured.people
    if not len(people):
        return Sliced((), (), {})
    of_users = {part: in_part_U for part, in_part_U in parts_of_users(people) if in_part_U.any()}
    counted = [
        (part, in_part_N, _num_targets(people, part, in_part_N))
        for part, in_part_N in parts_of_targets(items)
    ]
    of_targets = [one for one in counted if one[2].any()]
    present_UP = np.column_stack([
        *of_users.values(), *(counts_U > 0 for _, _, counts_U in of_targets)
    ])  # fmt: skip
    figures = {}
    for name in names:
        lists_UK = measured.lists[name][:, :GATE_K]
        hits_UK = hits(lists_UK, people.targets.offsets, people.targets.item_nums)
        whole_UM = _sliced(measured.by_user[name][:, 0], measured.ks.index(GATE_K))
        values = [whole_UM * in_part_U[:, None] for in_part_U in of_users.values()]
        for _, in_part_N, counts_U in of_targets:
            found = metrics_by_user(hits_UK & in_part_N[lists_UK], counts_U, (GATE_K,))
            values.append(_sliced(np.where(counts_U[:, None, None] > 0, found, 0.0), 0))
        figures[name] = ByUser(np.stack(values, axis=1), present_UP)
    num_targets = [
        *(int(people.targets.counts[in_part_U].sum()) for in_part_U in of_users.values()),
        *(int(counts_U.sum()) for _, _, counts_U in of_targets),
    ]
    parts = (*of_users, *(part for part, _, _ in of_targets))
    return Sliced(parts, tuple(num_targets), resampled_means(figures, rounds=rounds, seed=seed))


def parts_of_users(people: People) -> Iterator[tuple[Part, Bools]]:
    """Each part, and (U,) who is in it."""
    for shortest, longer in zip(LENGTHS, (*LENGTHS[1:], None), strict=True):
        name = f"{shortest}+" if longer is None else f"{shortest}-{longer - 1}"
        in_part_U = people.num_events_U >= shortest
        if longer is not None:
            in_part_U &= people.num_events_U < longer
        yield Part("history_length", name), in_part_U
    segments = np.array(people.segments, dtype=object)
    users = Counter(people.segments)
    most_users = sorted(users, key=lambda segment: (-users[segment], segment))
    for segment in most_users[:MOST_SEGMENTS]:
        name = segment or _free(UNKNOWN, users)
        yield Part("segment", name), segments == segment
    yield Part("segment", _free(OTHERS, users)), np.isin(segments, most_users[MOST_SEGMENTS:])


def _free(name: str, taken: Container[str]) -> str:
    """``name``, in brackets where a shop calls a segment so: both are parts."""
    while name in taken:
        name = f"({name})"
    return name


def parts_of_targets(items: ItemFacts) -> Iterator[tuple[Part, Bools]]:
    """Each part, and (N,) the items in it; ``COLD`` has none that a list could hold."""
    everything_N = np.arange(len(items.num_buyers_N)) > 0
    # Deciles of the catalogue, the first has what most people bought; ties go by number.
    decile_N = _equal_parts(-items.num_buyers_N.astype(np.float64), everything_N, DECILES)
    for decile in range(DECILES):
        yield Part("popularity_decile", f"{decile + 1}"), decile_N == decile
    known_N = everything_N & np.isfinite(items.price_N)
    fifth_N = _equal_parts(items.price_N, known_N, FIFTHS)
    for fifth in range(FIFTHS):
        yield Part("price_fifth", f"{fifth + 1}"), fifth_N == fifth
    yield Part("price_fifth", UNKNOWN), everything_N & ~known_N
    yield Part("vocabulary", "known"), everything_N
    yield COLD, np.zeros(len(everything_N), dtype=bool)


def _num_targets(people: People, part: Part, in_part_N: Bools) -> Ints:
    """(U,) targets in the part."""
    targets = people.targets
    rows_S = np.repeat(np.arange(len(people)), np.diff(targets.offsets))
    if part == COLD:
        cold_U: Ints = targets.counts - np.diff(targets.offsets)
        return cold_U
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
