"""A night's report of 120 users of a gift shop, drawn at random: what the page and the card are made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np

from recsys.config.gate import GateConfig
from recsys.evaluation.block import Block
from recsys.evaluation.catalogue import FIGURES
from recsys.evaluation.examples import examples
from recsys.evaluation.gate import Candidate, judge, reason_of
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.night_report import NightReport
from recsys.evaluation.nightly import slice_gains
from recsys.evaluation.rows import list_rows, metric_rows, slice_rows
from recsys.records import EvaluationRecord, Recipe, TrainingRecord
from tests.evaluation.measured import block, measured, people

RUN_DATE = date(2024, 6, 29)
HOSTILE = "<img src=x onerror=\"document.title='run'\">"
THINGS = (
    "cakestand",
    "lunch bag",
    "tea towel",
    "photo frame",
    "door mat",
    "mug",
    "candle",
    "bunting",
)
COLOURS = ("red", "blue", "ivory", "green", "pink")
NUM_USERS, NUM_ITEMS = 120, len(THINGS) * len(COLOURS)
RIGHT = {
    "blend": 0.5,
    "last_purchases": 0.4,
    "repeat_purchase": 0.32,
    "item_item": 0.35,
    "transitions": 0.3,
    "popularity": 0.15,
}
"""How often a place of a list is a target."""


def night_report(*, live_release: str = "", **gate: float) -> NightReport:
    """Everybody better than popularity, the blend best of all; ``gate`` is of its section of conf."""
    items = _items()
    shop = measured(_everybody(), num_items=NUM_ITEMS, items=items)
    other = "last_purchases"
    ndcg = {name: shop.estimate(name, "all", "ndcg", 10).value for name in shop.names}
    candidate = Candidate(
        NUM_USERS, ndcg, 0.4, live_release,
        slices=tuple(
            replace(gain, of_targets=False) for gain in slice_gains(shop.sliced, other)
        ),
        model_bytes=1_000_000,
    )  # fmt: skip
    verdicts = judge(candidate, GateConfig(bootstrap=True, **gate))
    rows = [
        *metric_rows(shop, RUN_DATE, compared_with=("popularity", other)),
        *list_rows(shop, RUN_DATE),
    ]
    return NightReport(
        shop="gift shop", window_days=28, as_of=shop.cut_off, live_release=live_release, other=other,
        slice_users=25,
        record=EvaluationRecord(
            run_date=RUN_DATE, passed=all(one.ok for one in verdicts), reason=reason_of(verdicts),
            recipe=Recipe(name="blend", model=0.2, repeat=0.25, transitions=0.2, decay=0.99),
            model_version="0123456789abcdef",
        ),
        training=TrainingRecord(
            run_date=RUN_DATE, trained=True, reason="due", epochs=5,
            validation_ndcg_at_10=(0.14, 0.21, 0.24, 0.25, 0.262, 0.261, 0.258),
        ),
        verdicts=tuple(verdicts), rows=tuple(rows),
        slice_rows=tuple(
            slice_rows(shop, RUN_DATE, names=("blend", other), other=other, least_users=25)
        ),
        examples=examples(shop.seen, items),
    )  # fmt: skip


def _everybody() -> Block:
    draw = np.random.default_rng(17)
    targets = [
        (draw.permutation(NUM_ITEMS)[: draw.integers(1, 9)] + 1).tolist() for _ in range(NUM_USERS)
    ]
    whom = people(
        *targets,
        cold={user: 1 for user in range(0, NUM_USERS, 4)},
        num_events=draw.integers(1, 150, NUM_USERS).tolist(),
        segments=["United Kingdom" if user % 4 else "France" for user in range(NUM_USERS - 5)]
        + ["Cyprus"] * 5,
    )  # fmt: skip
    lists = {
        name: [_list(draw, right, row) for row in targets] for name, right in RIGHT.items()
    }  # fmt: skip
    said = {name: draw.uniform(0, 1, (NUM_USERS, len(FIGURES), 1)) for name in lists}
    return replace(block(whom, lists), list_values=said)


def _list(draw: np.random.Generator, right: float, targets: list[int]) -> list[int]:
    """Ten items, each of them a target as often as ``right`` says, as long as there are any."""
    others = [num for num in (draw.permutation(NUM_ITEMS) + 1).tolist() if num not in targets]
    left = list(targets)
    return [left.pop() if left and draw.random() < right else others.pop() for _ in range(10)]


def _items() -> ItemFacts:
    titles = [f"{thing}, {colour}" for thing in THINGS for colour in COLOURS]
    titles[0] = HOSTILE
    nums = np.arange(NUM_ITEMS + 1)
    return ItemFacts(
        tuple(f"i{num}" for num in nums), ("", *titles), np.where(nums > 0, 90 - 2 * nums, 0),
        np.where(nums > 0, 0.5 + nums % 7, np.nan),
    )  # fmt: skip
