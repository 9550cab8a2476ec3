"""What ``measure`` would have found, made by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa

from recsys.evaluation.block import KINDS, Block, People
from recsys.evaluation.catalogue import FIGURES
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.list_figures import GROUPS
from recsys.evaluation.measured import Measured
from recsys.evaluation.pieces import added_up, measured_of, pieces
from recsys.evaluation.ranking import hits, metrics_by_user
from recsys.evaluation.slices import MOST_SEGMENTS, Slicing
from recsys.evaluation.splits import Targets
from recsys.evaluation.tally import Plan, Tally, group_order
from recsys.mixing import mix64

DAY = date(2024, 6, 1)
K = 10
ROUNDS, SEED = 200, 1


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
        keys_U=mix64(np.arange(users, dtype=np.uint64)),
        segments=tuple(segments or [""] * users),
        num_events_U=np.array(num_events or [3] * users, dtype=np.int64),
        newest_UK=np.tile(np.array([0, 0, 1, 2, 3], dtype=np.int32), (users, 1)),
        targets=Targets(np.concatenate([[0], np.cumsum(lengths)]), nums, counts),
        num_first_U=counts,
    )


def block(whom: People, lists: dict[str, list[list[int]]], *, ks: tuple[int, ...] = (K,)) -> Block:
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
    return Block(
        people=whom,
        by_user={name: np.stack([values] * len(KINDS), axis=1) for name, values in by_user.items()},
        list_values={n: np.full((len(whom), len(FIGURES), len(ks)), np.nan) for n in lists},
        lists=lists_UK,
    )


def measured(
    *blocks: Block, num_items: int, ks: tuple[int, ...] = (K,), rounds: int = ROUNDS, seed: int = SEED,
    items: ItemFacts | None = None,
) -> Measured:  # fmt: skip
    """As the driver has it where each block was a worker's; ``items`` for the parts, of every recommender."""
    names = tuple(blocks[0].lists)
    order_U = np.concatenate([group_order(one.people.keys_U) for one in blocks])
    shares = np.arange(1, GROUPS) / GROUPS
    ends = np.quantile(order_U, shares, method="inverted_cdf").tolist() if len(order_U) else []
    plan = Plan(ks, rounds, seed, group_ends=tuple(ends))
    if items is not None:
        users_of = Counter(segment for one in blocks for segment in one.people.segments)
        most = sorted(users_of, key=lambda segment: (-users_of[segment], segment))[:MOST_SEGMENTS]
        plan = replace(plan, slicing=Slicing.of(most, items), sliced=names)
    rows: list[pa.RecordBatch] = []
    for one in blocks:
        tally = Tally(plan, width=num_items + 1)
        if len(one.people):
            tally.add(one)
        rows += pieces(tally)
    return added_up_whole(rows, plan, names, num_items)


def added_up_whole(
    rows: Sequence[pa.RecordBatch], plan: Plan, names: tuple[str, ...], num_items: int
) -> Measured:
    """What Spark brings together in whatever order, brought together here from the last to the first."""
    allowed_N = np.arange(num_items + 1) > 0
    by_piece: dict[tuple[str, int], list[pa.RecordBatch]] = {}
    for row in reversed(rows):
        key = (row.column("recommender")[0].as_py(), row.column("piece")[0].as_py())
        by_piece.setdefault(key, []).append(row)
    whole = [added_up(pa.Table.from_batches(one), allowed_N, plan.ks) for one in by_piece.values()]
    nothing = pa.table({
        "recommender": pa.array([], pa.string()), "piece": pa.array([], pa.int32()),
        "values": pa.array([], pa.list_(pa.float64())), "seen": pa.array([], pa.string()),
    })  # fmt: skip
    return measured_of(
        pa.concat_tables([nothing, *whole]), names, allowed_N,
        plan=plan, window="measuring", cut_off=DAY,
    )  # fmt: skip
