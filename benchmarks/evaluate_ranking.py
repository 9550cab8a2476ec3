"""A shop's evaluation, from vectors to figures: exact, over the whole catalogue, all ranking metrics, two threads.

    make bench-evaluate_ranking
    make bench-evaluate_ranking ARGS=--quick

Amazon Beauty's size: 22,363 users, 12,101 items, vectors of width 64, up to ten targets a user; metrics at 5, 10, 20.
Scored by the compiled stage 1 (ranked in float64), then hits and metrics by user. Before anything is timed the lists of
a sample are compared with those of a plain product in float64. Beside it, without a target: the two halves by
themselves, and the plain float32 product of the same shapes, which finds nothing.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.dense import Floats, product, vectors
from benchmarks.paired import ROUNDS, Condition, alternately, arguments, show
from recsys.evaluation.ranking import METRICS, hits, metrics_by_user
from recsys.evaluation.splits import Targets
from recsys.scoring.select import library
from recsys.scoring.top_items import largest_norm, top_items

# Shape suffixes in this file:
#   B users   N items   D embedding width   K list places

THREADS = 2
KS = (5, 10, 20)
CHECKED = 200
CASE = "22,363 users x 12,101 items x dim 64, all ranking metrics at three cut-offs, in s"


@dataclass(frozen=True)
class Size:
    users: int = 22_363
    items: int = 12_101
    dim: int = 64
    most_targets: int = 10


def targets(size: Size) -> Targets:
    """1 to ``most_targets`` of each user, any items."""
    draw = np.random.default_rng(3)
    drawn = draw.integers(1, size.items + 1, (size.users, size.most_targets))
    kept = np.arange(size.most_targets) < draw.integers(1, size.most_targets + 1, (size.users, 1))
    rows = np.repeat(np.arange(size.users), size.most_targets).reshape(drawn.shape)
    keys = np.unique((rows[kept] << 32) + drawn[kept])
    counts = np.bincount(keys >> 32, minlength=size.users)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Targets(offsets, (keys & ((1 << 32) - 1)).astype(np.int32), counts)


def lists_of(users_BD: Floats, items_ND: Floats, largest: float) -> NDArray[np.int32]:
    """(B, K) item numbers, from 1."""
    found = top_items(users_BD, items_ND, max(KS), largest=largest, threads=THREADS)
    return found.nums_BM + 1


def figures_of(lists_BK: NDArray[np.int32], wanted: Targets) -> NDArray[np.float64]:
    """[metric, k], means over users."""
    found = hits(lists_BK, wanted.offsets, wanted.item_nums)
    means: NDArray[np.float64] = metrics_by_user(found, wanted.counts, KS).mean(axis=0)
    return means


def agree(users_BD: Floats, items_ND: Floats, lists_BK: NDArray[np.int32]) -> None:
    """The same items in the same places as the product in float64 has."""
    scores_BN = users_BD.astype(np.float64) @ items_ND.T.astype(np.float64)
    best_BK = np.argsort(-scores_BN, axis=1, kind="stable")[:, : max(KS)] + 1
    np.testing.assert_array_equal(lists_BK, best_BK)


def run(size: Size, *, rounds: int = ROUNDS) -> None:
    if library() is None:
        raise SystemExit("scoring's compiled kernel is not there; `make setup` builds it")
    torch.set_num_threads(THREADS)
    users_BD, items_ND = vectors(size.users, size.dim, 1), vectors(size.items, size.dim, 2)
    largest, wanted = largest_norm(items_ND), targets(size)
    lists_BK = lists_of(users_BD, items_ND, largest)
    agree(users_BD[:CHECKED], items_ND, lists_BK[:CHECKED])
    taken = alternately(
        {
            CASE: lambda: figures_of(lists_of(users_BD, items_ND, largest), wanted),
            "lists alone": lambda: lists_of(users_BD, items_ND, largest),
            "metrics alone": lambda: figures_of(lists_BK, wanted),
            "product alone": product(users_BD, items_ND),
        },
        rounds=rounds,
    )
    show(taken)
    means = figures_of(lists_BK, wanted)
    print(
        {
            f"{metric}@{k}": round(means[m, p], 5)
            for m, metric in enumerate(METRICS)
            for p, k in enumerate(KS)
        }
    )
    Condition("evaluate_ranking", CASE).report(
        taken[CASE],
        measured=size == Size(),
        users=size.users,
        items=size.items,
        metrics_s=round(statistics.median(taken["metrics alone"]), 4),
        product_s=round(statistics.median(taken["product alone"]), 4),
    )


def main() -> None:
    asked = arguments(__doc__).parse_args()
    size = Size(users=2000, items=3000) if asked.quick else Size()
    run(size, rounds=asked.rounds)


if __name__ == "__main__":
    main()
