"""Models that are broken in the ways that happen, from the fit to the verdict; leaks: tests/evaluation/test_leaks.py.

In this shop everybody walks through the catalogue in steps whose length is that of their segment. Transitions of the
whole shop know three ways on from every item; the candidate, fitted on each segment alone, knows the one.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from recsys.config.gate import GateConfig
from recsys.evaluation.gate import Candidate, Verdict, judge
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.nightly import slice_gains
from recsys.recommenders import Histories, Recommender, Shop
from recsys.recommenders.item_item import ClassicItemItem
from recsys.recommenders.last_purchases import LastPurchases
from recsys.recommenders.popularity import Popularity
from recsys.recommenders.transitions import Transitions
from tests.evaluation.measured import K, block, measured, people

NUM_ITEMS, NUM_EVENTS = 30, 6
STEPS = {"home": 1, "gifts": 2, "trade": 3}
SEGMENTS = ["home"] * 250 + ["gifts"] * 250 + ["trade"] * 100

Lists = NDArray[np.int32]


def walks() -> NDArray[np.int32]:
    """(U, events + 1): what each user had, and last what they go on to take.

    The newest event of the history is elsewhere: what came before it does not tell the length of the next step.
    """
    starts, steps = np.arange(len(SEGMENTS)), np.array([STEPS[name] for name in SEGMENTS])
    elsewhere = 7 * starts + 11
    ways = [starts + steps * event for event in range(NUM_EVENTS - 1)]
    return (np.column_stack([*ways, elsewhere, elsewhere + steps]) % NUM_ITEMS + 1).astype(np.int32)


def shop_of(walked: NDArray[np.int32]) -> Shop:
    offsets = np.arange(len(walked) + 1, dtype=np.int64) * NUM_EVENTS
    return Shop(NUM_ITEMS, Histories(offsets, walked[:, :-1].ravel()))


def lists_of(fitted: Recommender, asked: Shop) -> Lists:
    scores_UN = fitted.scores(asked.everyone())[:, 1:]
    return (np.argsort(-scores_UN, axis=1, kind="stable")[:, :K] + 1).astype(np.int32)


@cache
def baselines() -> dict[str, Lists]:
    whole = shop_of(walks())
    by_name: dict[str, Recommender] = {
        "popularity": Popularity(), "last_purchases": LastPurchases(), "transitions": Transitions(),
        "repeat_purchase": Popularity(),  # in a shop where nobody takes anything again
        "item_item": ClassicItemItem(), "live": Transitions(),
    }  # fmt: skip
    return {name: lists_of(one.fit(whole), whole) for name, one in by_name.items()}


def candidate_lists(*, shuffled: tuple[str, ...] = ()) -> Lists:
    """Fitted on each segment alone; the items of ``shuffled`` segments were exchanged among the events before."""
    found = np.zeros((len(SEGMENTS), K), dtype=np.int32)
    rng = np.random.default_rng(3)
    for segment in STEPS:
        rows = np.array([name == segment for name in SEGMENTS])
        asked = walks()[rows]
        labels = rng.permuted(asked.ravel()).reshape(asked.shape) if segment in shuffled else asked
        found[rows] = lists_of(Transitions().fit(shop_of(labels)), shop_of(asked))
    return found


def verdicts_on(blend: Lists) -> list[Verdict]:
    """As a night comes to them; the live recipe is the baseline ``transitions``."""
    whom = people(*([int(walk[-1])] for walk in walks()), segments=SEGMENTS)
    lists = {"blend": blend, **baselines()}
    nothing = np.zeros(NUM_ITEMS + 1)
    names = tuple(map(str, range(NUM_ITEMS + 1)))
    items = ItemFacts(names, names, nothing.astype(np.int64), nothing)
    everybody = block(whom, {name: found.tolist() for name, found in lists.items()})
    shop = measured(everybody, num_items=NUM_ITEMS, items=items)
    candidate = Candidate(
        num_users=shop.num_users,
        ndcg_at_10={name: shop.estimate(name, "all", "ndcg", K).value for name in shop.names},
        coverage_at_10=shop.of_shop("blend", "coverage", K).value,
        live_release="2024-05-31-abc",
        slices=slice_gains(shop.sliced, "live"),
        list_churn=shop.churn["live"],
        model_bytes=1000,
    )
    return judge(candidate, GateConfig())


def refused(verdicts: list[Verdict]) -> dict[str, str]:
    return {one.rule: one.reason for one in verdicts if not one.ok}


def test_a_sound_model_passes() -> None:
    assert refused(verdicts_on(candidate_lists())) == {}


def test_a_model_of_shuffled_labels_is_below_the_best_baseline() -> None:
    reasons = refused(verdicts_on(candidate_lists(shuffled=tuple(STEPS))))

    assert {"best_baseline", "live_recipe"} <= set(reasons)
    assert "is below transitions" in reasons["best_baseline"]
    assert "is below the recipe of 2024-05-31-abc" in reasons["live_recipe"]


def test_a_model_that_is_worse_for_one_segment_alone_is_stopped_by_name() -> None:
    """Over everybody it is better than all baselines and the live recipe."""
    reasons = refused(verdicts_on(candidate_lists(shuffled=("trade",))))

    assert set(reasons) == {"slice_regressions"}
    assert "segment trade: -" in reasons["slice_regressions"]
    assert "segment home" not in reasons["slice_regressions"]
    assert "100 users" in reasons["slice_regressions"]
