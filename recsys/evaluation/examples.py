"""Lists to look at: users for whom the blend was right, and users for whom it was not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from recsys.config.sections import GATE_K
from recsys.evaluation.block import KINDS, Block
from recsys.evaluation.item_facts import ItemFacts
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


@dataclass(frozen=True)
class Seen:
    """One measured user; items by number. Users are told apart by their id, and come in its order."""

    user_id: str
    ndcg: float
    num_targets: int
    had: tuple[int, ...]
    offered: tuple[int, ...]
    taken: tuple[int, ...]


def best_and_worst(seen: Iterable[Seen]) -> tuple[Seen, ...]:
    """Users with the best lists by NDCG@10, then users with the worst; of equals those with most targets.

    Those of all users are among those of any parts of them.
    """
    by_targets = sorted(seen, key=lambda one: (-one.num_targets, one.user_id))
    best = sorted(by_targets, key=lambda one: -one.ndcg)[:NUM_EXAMPLES]
    left = [one for one in by_targets if one not in best]
    return (*best, *sorted(left, key=lambda one: one.ndcg)[:NUM_EXAMPLES])


def seen_of(block: Block, ks: tuple[int, ...]) -> tuple[Seen, ...]:
    """Of a block, those who may be among the ``best_and_worst`` of all."""
    people, targets = block.people, block.people.targets
    values_U = block.by_user[BLEND][:, KINDS.index("all"), METRICS.index("ndcg"), ks.index(GATE_K)]
    ids_U = np.array(people.user_ids)
    # A few of the best ones may be among the worst of a small shop.
    best = np.lexsort((ids_U, -targets.counts, -values_U))[:NUM_EXAMPLES]
    worst = np.lexsort((ids_U, -targets.counts, values_U))[: 2 * NUM_EXAMPLES]
    return tuple(
        Seen(
            user_id=people.user_ids[row],
            ndcg=float(values_U[row]),
            num_targets=int(targets.counts[row]),
            had=_filled(people.newest_UK[row]),
            offered=_filled(block.lists[BLEND][row, :GATE_K]),
            taken=_filled(targets.item_nums[targets.offsets[row] : targets.offsets[row + 1]]),
        )
        for row in dict.fromkeys((*best.tolist(), *worst.tolist()))
    )


def examples(seen: Iterable[Seen], items: ItemFacts) -> tuple[Example, ...]:
    """The ``best_and_worst`` of them, told by title."""
    return tuple(_example(one, items) for one in best_and_worst(seen))


def _example(one: Seen, items: ItemFacts) -> Example:
    return Example(
        ndcg=one.ndcg,
        had=tuple(items.titles[num] for num in one.had),
        offered=tuple((items.titles[num], num in one.taken) for num in one.offered),
        taken=tuple(items.titles[num] for num in one.taken),
        num_cold=one.num_targets - len(one.taken),
    )


def _filled(nums: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> tuple[int, ...]:
    return tuple(num for num in nums.tolist() if num)
