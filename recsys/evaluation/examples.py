"""Lists to look at: users for whom the blend was right, and users for whom it was not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.config.sections import GATE_K
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.measuring import KINDS, Measured
from recsys.evaluation.ranking import METRICS
from recsys.evaluation.recommenders import BLEND

NUM_EXAMPLES = 3
"""Of each sort."""


@dataclass(frozen=True)
class Example:
    """One measured user; items by title.

    Nothing of the id is kept: a report is passed on more freely than the tables, and the hash of an id is reversed by
    hashing all ids.
    """

    ndcg: float
    had: tuple[str, ...]
    """The newest items of the history, oldest first."""
    offered: tuple[tuple[str, bool], ...]
    """The blend's first 10, and whether each was taken."""
    taken: tuple[str, ...]
    """What the user went on to have, of the items that the shop knew."""
    num_cold: int
    """Of those that it did not know."""


def examples(measured: Measured, items: ItemFacts) -> tuple[Example, ...]:
    """Users with the best lists by NDCG@10, then users with the worst; of equals those with most targets."""
    people = measured.people
    ks = measured.ks
    values = measured.by_user[BLEND][:, KINDS.index("all"), METRICS.index("ndcg"), ks.index(GATE_K)]
    counts = people.targets.counts
    best = np.lexsort((-counts, -values))[:NUM_EXAMPLES]
    worst = [row for row in np.lexsort((-counts, values)) if row not in best][:NUM_EXAMPLES]
    return tuple(_example(measured, items, int(row), float(values[row])) for row in (*best, *worst))


def _example(measured: Measured, items: ItemFacts, row: int, ndcg: float) -> Example:
    people, targets = measured.people, measured.people.targets
    taken = targets.item_nums[targets.offsets[row] : targets.offsets[row + 1]].tolist()
    offered = measured.lists[BLEND][row, :GATE_K].tolist()
    return Example(
        ndcg=ndcg,
        had=tuple(items.titles[num] for num in people.newest_UK[row].tolist() if num),
        offered=tuple((items.titles[num], num in taken) for num in offered if num),
        taken=tuple(items.titles[num] for num in taken),
        num_cold=int(targets.counts[row]) - len(taken),
    )
