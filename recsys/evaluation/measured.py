"""What was measured on a window, as the driver has it: means of all users with their intervals.

Shape suffixes: R rounds of the bootstrap and before them everybody once, X columns that are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from recsys.evaluation.block import KINDS
from recsys.evaluation.examples import Seen
from recsys.evaluation.intervals import Estimate, Floats, Means
from recsys.evaluation.list_figures import ListFigure, of_each_list
from recsys.evaluation.ranking import METRICS
from recsys.evaluation.slices import Part, Sliced
from recsys.evaluation.tally import Plan


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
    whole_shop: Mapping[str, Sequence[Mapping[str, Estimate]]]
    """By recommender, by cut-off: the figures of all lists at once."""
    churn: Mapping[str, float]
    """By recommender: the mean of ``list_figures.changes`` of its first 10 and the blend's, 0 to 1; NaN where nobody
    is measured."""
    sliced: Sliced
    seen: tuple[Seen, ...]
    """The best and the worst lists of the blend."""

    @classmethod
    def of_sums(
        cls, sums: Mapping[str, Floats], *, plan: Plan, window: str, cut_off: date,
        whole_shop: Mapping[str, Sequence[Mapping[str, Estimate]]], seen: tuple[Seen, ...],
    ) -> Measured:  # fmt: skip
        """``sums``: (R, X) of ``Plan.columns``, by recommender."""
        metrics, each_list, churn, in_parts = {}, {}, {}, {}
        num_users = 0
        for name, sums_RX in sorted(sums.items()):
            of_metrics, has_targets, figures, present, changed, *in_parts[name] = plan.sections(
                name, sums_RX
            )
            metrics[name] = Means.of_sums(_by_group(of_metrics, len(KINDS)), has_targets)
            each_list[name] = Means.of_sums(figures[:, :, None], present)
            num_users = int(has_targets[0, KINDS.index("all")])
            churn[name] = float(changed[0, 0]) / num_users if num_users else np.nan
        sliced = _sliced(plan.slicing.parts, {name: in_parts[name] for name in plan.sliced})
        return cls(
            window, cut_off, plan.ks, num_users, metrics, each_list, whole_shop, churn, sliced, seen
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

    def of_shop(self, name: str, metric: str, k: int) -> Estimate:
        """A figure of all lists at once: coverage or Gini."""
        return self.whole_shop[name][self.ks.index(k)][metric]

    def list_figures(self) -> list[ListFigure]:
        """Every figure of every recommender's lists that there is something to say of."""
        return [
            ListFigure(name, metric, k, estimate)
            for name, means in self.each_list.items()
            for place, k in enumerate(self.ks)
            for metric, estimate in (
                *of_each_list(means, self.ks, k),
                *self.whole_shop[name][place].items(),
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
