"""What a worker adds up of the users it measures: sums for every resample, how often each item is shown, and a few
users to look at. A million users cost the driver what a thousand do.

Sums are exact, so they are the same however users are parted (ADR 7): every figure of a user is rounded to a multiple
of 2^-28, which float64 adds without another rounding up to 2^25: 33 a user for the most users that conf takes
(``evaluation.max_users``).

Shape suffixes: U users, M metrics, P parts, K list places, R rounds of the bootstrap and before them everybody once,
X columns that are added up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.config.sections import GATE_K
from recsys.evaluation.block import KINDS, Block
from recsys.evaluation.catalogue import FIGURES
from recsys.evaluation.examples import Seen, best_and_worst, seen_of
from recsys.evaluation.intervals import ByUser, Floats
from recsys.evaluation.list_figures import changes
from recsys.evaluation.poisson import poisson_counts
from recsys.evaluation.ranking import METRICS
from recsys.evaluation.recommenders import BLEND
from recsys.evaluation.slices import SLICED, OfBlock, Slicing
from recsys.evaluation.times_shown import TimesShown
from recsys.mixing import U64

PRECISION = 2.0**28
"""Units of a figure: 4e-9."""
LOST_BITS = 11
"""Of a hash of 64 bits, in a float64."""


@dataclass(frozen=True)
class Plan:
    """What is added up, and how often users are resampled; travels to the workers."""

    ks: tuple[int, ...]
    rounds: int
    seed: int
    slicing: Slicing = field(default_factory=Slicing)
    sliced: tuple[str, ...] = ()
    """Recommenders that are measured on each part."""
    group_ends: tuple[int, ...] = ()
    """Of ``group_order``, ascending: they part the users into ``GROUPS`` of about the same size."""

    def columns(self, block: Block, name: str, parts: OfBlock | None) -> Floats:
        """(U, X) what one recommender's users add; ``sections`` takes the sums of it apart."""
        users = len(block.people)
        figures = ByUser.where_known(block.list_values[name].reshape(users, -1))
        change_U = changes(block.lists[name][:, :GATE_K], block.lists[BLEND][:, :GATE_K])
        columns = [
            block.by_user[name].reshape(users, -1), block.people.has_targets_UT,
            figures.values_UGX[:, :, 0], figures.present_UG, change_U[:, None],
        ]  # fmt: skip
        if parts is not None:
            values_UPM, present_UP, num_targets_UP = parts
            columns += [values_UPM.reshape(users, -1), present_UP, num_targets_UP]
        columns_UX = np.concatenate(columns, axis=1, dtype=np.float64)
        rounded_UX: Floats = np.rint(columns_UX * PRECISION) / PRECISION
        return rounded_UX

    def sections(self, name: str, sums_RX: Floats) -> list[Floats]:
        """The columns of metrics, of users with targets, of figures of lists, of users with these, of what changes; of
        a recommender that is sliced those of parts, of users in them and of their targets."""
        return np.split(sums_RX, np.cumsum(self.widths(name))[:-1], axis=1)

    def widths(self, name: str) -> list[int]:
        """Of ``columns``, section by section."""
        metrics, figures = len(METRICS) * len(self.ks), len(FIGURES) * len(self.ks)
        parts = len(self.slicing.parts)
        in_parts = [parts * len(SLICED), parts, parts] if name in self.sliced else []
        return [len(KINDS) * metrics, len(KINDS), figures, figures, 1, *in_parts]

    def nothing(self, name: str) -> Floats:
        """(R, X) the sums over no users."""
        return np.zeros((1 + self.rounds, sum(self.widths(name))))


def group_order(keys_U: U64) -> NDArray[np.int64]:
    """Where users stand when they are cut into groups: as much of the hash as Spark's quantiles keep, a float64's."""
    order_U: NDArray[np.int64] = keys_U.view(np.int64) >> LOST_BITS
    return order_U


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
        group_U = np.searchsorted(plan.group_ends, group_order(keys_U))
        in_parts = plan.slicing.of_block(block, plan.sliced, plan.ks)
        for name, lists_UK in block.lists.items():
            sums_RX = counts_UR.T @ plan.columns(block, name, in_parts.get(name))
            self.sums[name] = self.sums[name] + sums_RX if name in self.sums else sums_RX
            self.shown.setdefault(name, TimesShown(self._width, plan.ks)).add(group_U, lists_UK)
        self.seen = best_and_worst((*self.seen, *seen_of(block, plan.ks)))
