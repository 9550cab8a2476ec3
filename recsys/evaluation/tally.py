"""What is added up of everybody who is measured. No figure of a single user is kept, so a million of them cost what
a thousand do: sums for every resample, how often each item is shown, and a few users to look at.

Shape suffixes: U users, T kinds of targets, M metrics, C cut-offs, Q figures of lists, P parts, K list places,
R rounds of the bootstrap and before them everybody once, X columns that are added up, N catalogue (num_items + 1),
G groups of users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from recsys.config.sections import GATE_K
from recsys.evaluation.block import KINDS, Block
from recsys.evaluation.catalogue import FIGURES
from recsys.evaluation.examples import Seen, best_and_worst, seen_of
from recsys.evaluation.intervals import ByUser, Estimate, Floats, Means
from recsys.evaluation.list_figures import (
    GROUPS,
    ListFigure,
    changes,
    of_each_list,
    of_times_shown,
)
from recsys.evaluation.list_quality import Ints, ItemNums
from recsys.evaluation.poisson import groups_of, poisson_counts
from recsys.evaluation.ranking import METRICS
from recsys.evaluation.recommenders import BLEND
from recsys.evaluation.slices import SLICED, Part, Sliced, Slicing

COMPACTED = 1 << 21
"""Places of lists that are held before they are counted: 34 MB with their counts."""


@dataclass(frozen=True)
class Plan:
    """What is added up, and how often users are resampled; travels to the workers."""

    ks: tuple[int, ...]
    rounds: int
    seed: int
    slicing: Slicing = field(default_factory=Slicing)
    sliced: tuple[str, ...] = ()
    """Recommenders that are measured on each part."""

    def columns(self, block: Block, name: str) -> Floats:
        """(U, X) what one recommender's users add; ``means`` and the rest read the sums of it."""
        figures = ByUser.where_known(block.list_values[name].reshape(len(block.people), -1))
        first_UK = {one: lists_UK[:, :GATE_K] for one, lists_UK in block.lists.items()}
        columns = [
            block.by_user[name].reshape(len(block.people), -1),
            block.people.has_targets_UT,
            figures.values_UGX[:, :, 0],
            figures.present_UG,
            changes(first_UK[name], first_UK[BLEND])[:, None],
        ]
        if name in self.sliced:
            values_UPM, present_UP, num_targets_UP = self.slicing.of_block(block, name, self.ks)
            columns += [values_UPM.reshape(len(values_UPM), -1), present_UP, num_targets_UP]
        return np.concatenate(columns, axis=1, dtype=np.float64)

    def widths(self, name: str) -> list[int]:
        """Of ``columns``, section by section."""
        metrics, figures = len(METRICS) * len(self.ks), len(FIGURES) * len(self.ks)
        parts = len(self.slicing.parts)
        in_parts = [parts * len(SLICED), parts, parts] if name in self.sliced else []
        return [len(KINDS) * metrics, len(KINDS), figures, figures, 1, *in_parts]

    def nothing(self, name: str) -> Floats:
        """(R, X) the sums over no users."""
        return np.zeros((1 + self.rounds, sum(self.widths(name))))


class Tally:
    """Of some users, on a worker."""

    def __init__(self, plan: Plan, *, width: int) -> None:
        """``width`` of the catalogue."""
        self._plan = plan
        self._width = width
        self.sums: dict[str, Floats] = {}
        """(R, X) by recommender."""
        self.shown: dict[str, TimesShown] = {}
        self.seen: tuple[Seen, ...] = ()

    def add(self, block: Block) -> None:
        plan, keys_U = self._plan, block.people.keys_U
        counts_UR = poisson_counts(keys_U, rounds=plan.rounds, seed=plan.seed)
        group_U = groups_of(keys_U, GROUPS)
        for name, lists_UK in block.lists.items():
            sums_RX = counts_UR.T @ plan.columns(block, name)
            self.sums[name] = self.sums[name] + sums_RX if name in self.sums else sums_RX
            self.shown.setdefault(name, TimesShown(self._width, plan.ks)).add(group_U, lists_UK)
        self.seen = best_and_worst((*self.seen, *seen_of(block, plan.ks)))


class TimesShown:
    """In how many lists of each group of users an item is, between one cut-off and the next.

    Counted as pairs of a key and its count, which is as much as the lists show, not as large as the catalogue. In
    place of item 0, which is nowhere, it is told how many users a group has.
    """

    def __init__(self, width: int, ks: tuple[int, ...]) -> None:
        self._width, self._ks = width, ks
        self._keys: list[Ints] = [np.zeros(0, dtype=np.int64)]
        self._counts: list[Ints] = [np.zeros(0, dtype=np.int64)]

    def add(self, group_U: Ints, lists_UK: ItemNums) -> None:
        band_K = np.searchsorted(self._ks, np.arange(max(self._ks)), side="right")
        keys_UK = (band_K * GROUPS + group_U[:, None]) * self._width + lists_UK
        for keys in (keys_UK[lists_UK != 0], group_U * self._width):
            self._keys.append(keys)
            self._counts.append(np.ones(len(keys), dtype=np.int64))
        if sum(map(len, self._keys)) > COMPACTED:
            self.pairs()

    def pairs(self) -> tuple[Ints, Ints]:
        """Keys, ascending, and the count of each."""
        keys, places = np.unique(np.concatenate(self._keys), return_inverse=True)
        counts = np.bincount(places, np.concatenate(self._counts), minlength=len(keys))
        self._keys, self._counts = [keys], [counts.astype(np.int64)]
        return self._keys[0], self._counts[0]


def all_lists_of(
    keys: Ints, counts: Ints, allowed_N: NDArray[np.bool_], ks: Sequence[int]
) -> list[dict[str, Estimate]]:
    """Figures by cut-off, from ``TimesShown.pairs`` of any parts of the users, one after the other."""
    size = GROUPS * len(allowed_N)
    times_GN = np.zeros((GROUPS, len(allowed_N)), dtype=np.int64)
    found = []
    for band in range(len(ks)):
        mine = keys // size == band
        new = np.bincount(keys[mine] % size, counts[mine], minlength=size)
        times_GN += new.astype(np.int64).reshape(times_GN.shape)
        users_G = times_GN[:, 0]
        shown_GN = np.where(np.arange(len(allowed_N)) > 0, times_GN, 0)[users_G > 0]
        found.append(dict(of_times_shown(shown_GN, allowed_N, int(users_G.sum()))))
    return found


@dataclass(frozen=True)
class Measured:
    """What was measured on one window."""

    window: str
    cut_off: date
    ks: tuple[int, ...]
    num_users: int
    metrics: Mapping[str, Means]
    """By recommender; groups are the kinds of targets."""
    each_list: Mapping[str, Means]
    """By recommender; groups are the figures of ``catalogue`` by cut-off."""
    all_lists: Mapping[str, Sequence[Mapping[str, Estimate]]]
    """By recommender, by cut-off."""
    churn: Mapping[str, float]
    """By recommender: the share of its first 10 that the blend's have not, 0 to 1; NaN where nobody is measured."""
    sliced: Sliced
    seen: tuple[Seen, ...]
    """The best and the worst lists of the blend."""

    @classmethod
    def of_sums(
        cls, sums: Mapping[str, Floats], *, plan: Plan, window: str, cut_off: date,
        all_lists: Mapping[str, Sequence[Mapping[str, Estimate]]], seen: tuple[Seen, ...],
    ) -> Measured:  # fmt: skip
        """``sums``: (R, X) of ``Plan.columns``, by recommender."""
        metrics, each_list, churn, in_parts = {}, {}, {}, {}
        num_users = 0
        for name, sums_RX in sorted(sums.items()):
            found = np.split(sums_RX, np.cumsum(plan.widths(name))[:-1], axis=1)
            of_metrics, has_targets, figures, present, changed, *in_parts[name] = found
            metrics[name] = Means.of_sums(_by_group(of_metrics, len(KINDS)), has_targets)
            each_list[name] = Means.of_sums(figures[:, :, None], present)
            num_users = int(has_targets[0, KINDS.index("all")])
            churn[name] = float(changed[0, 0]) / num_users if num_users else np.nan
        sliced = _sliced(plan.slicing.parts, {name: in_parts[name] for name in plan.sliced})
        return cls(
            window, cut_off, plan.ks, num_users, metrics, each_list, all_lists, churn, sliced, seen
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.metrics)

    def estimate(self, name: str, kind: str, metric: str, k: int) -> Estimate:
        return self.metrics[name].at(KINDS.index(kind), self._place(metric, k))

    def difference(self, name: str, other: str, kind: str, metric: str, k: int) -> Estimate:
        """``name`` minus ``other``, paired by user."""
        gains = self.metrics[name].less(self.metrics[other])
        return gains.at(KINDS.index(kind), self._place(metric, k))

    def of_all_lists(self, name: str, metric: str, k: int) -> Estimate:
        return self.all_lists[name][self.ks.index(k)][metric]

    def list_figures(self) -> list[ListFigure]:
        """Every figure of every recommender's lists that there is something to say of."""
        return [
            ListFigure(name, metric, k, estimate)
            for name, means in self.each_list.items()
            for place, k in enumerate(self.ks)
            for metric, estimate in (
                *of_each_list(means, self.ks, k),
                *self.all_lists[name][place].items(),
            )
        ]

    def _place(self, metric: str, k: int) -> int:
        return METRICS.index(metric) * len(self.ks) + self.ks.index(k)


def _sliced(parts: tuple[Part, ...], in_parts: Mapping[str, Sequence[Floats]]) -> Sliced:
    """From the sums of values, of users and of targets of each part, by recommender."""
    if not parts or not in_parts:
        return Sliced((), (), {})
    _, users, targets = next(iter(in_parts.values()))
    there = np.flatnonzero(users[0])
    means = {
        name: Means.of_sums(_by_group(values, len(parts))[:, there], users[:, there])
        for name, (values, users, _) in in_parts.items()
    }
    return Sliced(tuple(parts[p] for p in there), tuple(int(targets[0, p]) for p in there), means)


def _by_group(sums_RX: Floats, groups: int) -> Floats:
    return sums_RX.reshape(len(sums_RX), groups, -1)
