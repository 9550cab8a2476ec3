"""Stage 1 of scoring alone, on two threads: the best 100 items of each user against faiss, and what a blend adds to it.

    make setup-bench
    make bench-top_n_kernel
    make bench-top_n_kernel ARGS=--quick

Vectors of width 64, 20k and 100k items; faiss is ``IndexFlatIP``, exact in float32, where ours ranks in float64.
Beside them, without a target: torch and ONNX Runtime finding the same (`benchmarks.top_n_others`), the plain float32
product of the same shapes, which finds nothing, and how fast memory is copied.
The blend has similarity and transitions of 100 neighbours an item, histories of 20 events in the median (31 in the
mean, at most 200) on items by Zipf's law, popularity in 20 segments, and three rules: a tenth of the items hidden
from everybody, another tenth from half of the segments, and what a user has seen from them. Dense alone has the
same vectors and no rule.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from benchmarks.dense import BATCH, Floats, vectors
from benchmarks.limits import PRODUCT, THREADS, Limits, Shape, said, two_threads
from benchmarks.paired import ROUNDS, Condition, alternately, arguments, ratios, show
from benchmarks.top_n_others import OTHERS, Found
from recsys.records import Recipe
from recsys.scoring.kernel import Retriever
from recsys.scoring.kit import Kit
from recsys.scoring.parts import DenseParts, Fading, Parts, item_item_parts
from recsys.scoring.select import library, rounding
from recsys.scoring.top_items import largest_norm, top_items
from recsys.scoring.users import UserBatch

# Shape suffixes in this file:
#   B users   N items   D embedding width

M = 100
SEGMENTS = 20
DENSE = Recipe(name="model", model=1.0)
BLEND = Recipe(
    name="blend", model=0.5, similarity=0.4, transitions=0.6, repeat=0.3, popularity=0.2, decay=0.9
)


@dataclass(frozen=True)
class Size:
    users: int = 8192
    items: int = 20_000
    dim: int = 64
    neighbours: int = 100


def faiss() -> Any | None:
    """Facebook's exact search; None where it is not installed."""
    try:
        found = importlib.import_module(
            "faiss"
        )  # for comparison, not among this project's packages
    except ImportError:
        print("faiss-cpu is not installed (make setup-bench): nothing to compare with")
        return None
    found.omp_set_num_threads(THREADS)
    return found


def against_faiss(size: Size, case: str, *, rounds: int) -> Limits:
    """Returns the machine's limits at this size."""
    users_BD, items_ND = vectors(size.users, size.dim, 1), vectors(size.items, size.dim, 2)
    largest = largest_norm(items_ND)
    shape = Shape(size.users, size.items, size.dim)
    others: dict[str, Callable[[Floats], Found]] = {
        name: make(items_ND, M) for name, make in OTHERS.items()
    }
    if (other := faiss()) is not None:
        index = other.IndexFlatIP(size.dim)
        index.add(items_ND)
        others[case] = lambda users_BD: index.search(users_BD, M)
    for search in others.values():
        agree(users_BD[:200], items_ND, search, largest)
    taken = alternately(
        {
            "ours": lambda: top_items(users_BD, items_ND, M, largest=largest, threads=THREADS),
            **{name: partial(search, users_BD) for name, search in others.items()},
            **shape.sides(),
        },
        rounds=rounds,
    )
    show(taken)
    limits = said(shape.rates(taken))
    show_ratios(taken, [*others, PRODUCT])
    if case in taken:
        Condition("top_n_kernel", case).report(ratios(taken, case, "ours"), limits=limits)
    return limits


def show_ratios(taken: Mapping[str, Sequence[float]], names: Sequence[str]) -> None:
    for name in names:
        found = ratios(taken, name, "ours")
        print(
            f"{name}: {statistics.median(found):.2f} of our time ({min(found):.2f} to {max(found):.2f})"
        )


def agree(
    users_BD: Floats, items_ND: Floats, search: Callable[[Floats], Found], largest: float
) -> None:
    """All are exact, so that their items are the same but where float32 cannot tell."""
    found = top_items(users_BD, items_ND, M, largest=largest)
    scores_BM, nums_BM = search(users_BD)
    differ = found.nums_BM != nums_BM
    np.testing.assert_allclose(found.scores_BM, scores_BM, rtol=1e-5)
    assert differ.mean() < 0.01, f"{differ.sum()} items differ"


def shop(size: Size, *, ruled: bool) -> Kit:
    """A catalogue with its matrices; ``ruled`` hides items."""
    draw = np.random.default_rng(3)
    width = size.items + 1
    allowed_SN = np.ones((SEGMENTS, width), dtype=bool)
    allowed_SN[:, 0] = False
    if ruled:
        allowed_SN[:, draw.random(width) < 0.1] = False
        allowed_SN[::2, draw.random(width) < 0.1] = False
    buyers_SN = draw.poisson(0.3, (SEGMENTS, width)) * allowed_SN.any(axis=0)
    return Kit(
        as_of=date(2024, 6, 1),
        item_ids=pa.nulls(width, pa.string()),
        allowed=allowed_SN.any(axis=0),
        segment_allowed=allowed_SN if ruled else None,
        groups={},
        buyers=csr_array(buyers_SN.astype(np.float64)),
        segments=tuple(str(segment) for segment in range(SEGMENTS)),
        similarity=neighbours(size, draw),
        transitions=neighbours(size, draw),
    )


def neighbours(size: Size, draw: np.random.Generator) -> csr_array:
    """So many of each item, with falling scores."""
    each = min(size.neighbours, size.items)
    nums = 1 + np.argsort(draw.random((size.items, 2 * each)), axis=1)[:, :each]  # distinct
    nums = (
        1
        + (nums * max(1, size.items // (2 * each)) + draw.integers(0, size.items, (size.items, 1)))
        % size.items
    )
    nums.sort(axis=1)
    values = draw.random(nums.shape)
    offsets = np.concatenate([[0], np.arange(size.items + 1) * each])
    shape = (size.items + 1, size.items + 1)
    return csr_array(
        (values.ravel(), nums.ravel().astype(np.int32), offsets.astype(np.int32)), shape=shape
    )


def customers(size: Size) -> UserBatch:
    draw = np.random.default_rng(4)
    lengths = np.clip(np.exp(draw.normal(np.log(20), 1, size.users)).astype(np.int64), 1, 200)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    share_N = np.cumsum(1 / np.arange(1, size.items + 1))
    places = np.searchsorted(share_N, draw.random(offsets[-1]) * share_N[-1])
    nums = (1 + draw.permutation(size.items)[places]).astype(np.int32)
    nothing = np.zeros(size.users + 1, dtype=np.int64)
    return UserBatch(
        history_offsets=offsets, history_nums=nums,
        ages_days=np.ones(len(nums), np.float32), event_weights=np.ones(len(nums)),
        is_target=np.ones(len(nums), bool), seen_offsets=offsets, seen_nums=nums,
        hidden_offsets=nothing, hidden_nums=np.zeros(0, np.int32),
        segments=draw.integers(0, SEGMENTS, size.users).astype(np.int32),
        user_nums=np.zeros(size.users, np.int64),
    )  # fmt: skip


def dense_of(size: Size) -> DenseParts:
    user_BD = vectors(size.users, size.dim, 1).astype(np.float64)
    items_ND = vectors(size.items + 1, size.dim, 2)
    largest = largest_norm(items_ND)
    inverse_B = 1 / np.linalg.norm(user_BD, axis=1)
    return DenseParts(
        user_BD=user_BD, item_vectors=items_ND, mean_B=np.zeros(size.users),
        inverse_spread_B=inverse_B, error_B=np.full(size.users, rounding(size.dim) * largest),
        largest_norm=largest,
    )  # fmt: skip


def batches(size: Size, kit: Kit, recipe: Recipe) -> list[Parts]:
    users, dense = customers(size), dense_of(size)
    made = []
    for start in range(0, size.users, BATCH):
        rows = slice(start, min(start + BATCH, size.users))
        batch = users.slice(rows.start, rows.stop)
        mine = replace(
            dense, user_BD=dense.user_BD[rows], mean_B=dense.mean_B[rows],
            inverse_spread_B=dense.inverse_spread_B[rows], error_B=dense.error_B[rows],
        )  # fmt: skip
        history = item_item_parts(batch, kit, Fading.of(recipe))
        made.append(Parts(batch, mine, history if recipe.uses_item_item else None))
    return made


def stage_one(size: Size, recipe: Recipe, *, ruled: bool) -> Callable[[], None]:
    kit = shop(size, ruled=ruled)
    retriever = Retriever(kit, threads=THREADS)
    parts = batches(size, kit, recipe)

    def score() -> None:
        for batch in parts:
            retriever.best(batch, recipe, m=M, exclude_seen=ruled)

    return score


def what_a_blend_adds(size: Size, limits: Limits, *, rounds: int) -> None:
    case = "stage 1 with blend and three rules to dense alone"
    sides = {
        case: stage_one(size, BLEND, ruled=True),
        "dense alone": stage_one(size, DENSE, ruled=False),
    }
    taken = alternately(sides, rounds=rounds)
    show(taken)
    Condition("top_n_kernel", case).report(ratios(taken, case, "dense alone"), limits=limits)


def run(small: Size, large: Size, *, rounds: int = ROUNDS) -> None:
    """``small`` and ``large`` stand for the 20k and the 100k items of the conditions."""
    if library() is None:
        raise SystemExit("scoring's compiled kernel is not there; `make setup` builds it")
    with two_threads():
        limits = against_faiss(small, "faiss IndexFlatIP, 20k items", rounds=rounds)
        against_faiss(large, "faiss IndexFlatIP, 100k items", rounds=rounds)
        what_a_blend_adds(small, limits, rounds=rounds)


def main() -> None:
    asked = arguments(__doc__).parse_args()
    users = (4096, 2048) if asked.quick else (20_000, 8192)
    small, large = Size(users=users[0]), Size(users=users[1], items=100_000)
    run(small, large, rounds=asked.rounds)


if __name__ == "__main__":
    main()
