"""What ``measure`` would have found, made by hand."""

from __future__ import annotations

from datetime import date

import numpy as np

from recsys.evaluation.catalogue import FIGURES
from recsys.evaluation.measuring import KINDS, Measured, People
from recsys.evaluation.ranking import hits, metrics_by_user
from recsys.evaluation.splits import Targets

DAY = date(2024, 6, 1)
K = 10


def people(
    *targets: list[int], cold: dict[int, int] | None = None, num_events: list[int] | None = None,
    segments: list[str] | None = None,
) -> People:  # fmt: skip
    """Users u0, u1, … with these targets, and ``cold`` ones more; nobody had any of them before."""
    users = len(targets)
    lengths = np.array([len(row) for row in targets], dtype=np.int64)
    nums = np.array([num for row in targets for num in sorted(row)], dtype=np.int32)
    counts = lengths + np.array(
        [(cold or {}).get(user, 0) for user in range(users)], dtype=np.int64
    )
    return People(
        user_ids=tuple(f"u{user}" for user in range(users)),
        segments=tuple(segments or [""] * users),
        num_events_U=np.array(num_events or [3] * users, dtype=np.int64),
        newest_UK=np.tile(np.array([0, 0, 1, 2, 3], dtype=np.int32), (users, 1)),
        targets=Targets(np.concatenate([[0], np.cumsum(lengths)]), nums, counts),
        num_first_U=counts,
    )


def measured(
    whom: People, lists: dict[str, list[list[int]]], *, num_items: int, ks: tuple[int, ...] = (K,)
) -> Measured:
    """Of everybody's lists by recommender; nothing is said of the lists but whether they are right."""
    deepest = max(ks)
    lists_UK = {
        name: np.array(
            [[*row, *[0] * (deepest - len(row))] for row in rows], dtype=np.int32
        ).reshape(-1, deepest)
        for name, rows in lists.items()
    }
    targets = whom.targets
    by_user = {
        name: np.nan_to_num(
            metrics_by_user(hits(found, targets.offsets, targets.item_nums), targets.counts, ks)
        )
        for name, found in lists_UK.items()
    }
    return Measured(
        window="measuring", cut_off=DAY, ks=ks, people=whom,
        by_user={name: np.stack([values] * len(KINDS), axis=1) for name, values in by_user.items()},
        list_values={n: np.full((len(whom), len(FIGURES), len(ks)), np.nan) for n in lists},
        lists=lists_UK, allowed_N=np.arange(num_items + 1) > 0,
    )  # fmt: skip
