"""Whether stage 2 is chosen: where it helps on the choosing window, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.evaluation.recommenders import BLEND, recommenders
from recsys.evaluation.search import RERANKS, BlendSearch, Chosen
from recsys.records import Recipe
from recsys.scoring.bundle import open_bundle
from recsys.scoring.kit import Kit
from recsys.scoring.parts import Fading, ItemItemParts, item_item_parts
from recsys.scoring.ranking_bundle import open_ranking
from recsys.scoring.scorer import Rules, Scorer
from recsys.scoring.users import Signals, UserBatch
from tests.scoring.ranking_worlds import ranking_folder
from tests.scoring.worlds import kit_of, model_folder, never_again

NUM_ITEMS, NUM_USERS = 12, 8
TARGET = 11
"""What everybody goes on to buy: in stage 1's lists it is the last but one."""


def users() -> pa.RecordBatch:
    """Users of one past purchase each; columns as ``targets.measured_users`` has them."""
    ints = pa.list_(pa.int32())
    target, one = pa.array([[TARGET]] * NUM_USERS, ints), [1] * NUM_USERS
    return pa.RecordBatch.from_pydict(
        {
            "user_id": [f"u{u}" for u in range(NUM_USERS)],
            "segment": pa.array([None] * NUM_USERS, pa.string()),
            "user_num": pa.array(range(1, NUM_USERS + 1), pa.int32()),
            "item_nums": pa.array([[u + 1] for u in range(NUM_USERS)], ints),
            "ages_days": pa.array([[1.5]] * NUM_USERS, pa.list_(pa.float32())),
            "event_types": pa.array([["purchase"]] * NUM_USERS, pa.list_(pa.string())),
            "seen_nums": pa.array([[]] * NUM_USERS, ints),
            "hidden_nums": pa.array([[]] * NUM_USERS, ints),
            "target_nums": target, "num_targets": one, "first_nums": target, "num_first": one,
        }
    )  # fmt: skip


def chosen_with(folder: Path, logits: list[float], ranking_version: str = "ranks") -> Chosen:
    """The model's vectors are zeros: popularity is all that stage 1 has."""
    kit = replace(
        kit_of(
            NUM_ITEMS,
            buyers=[[100.0 - item for item in range(NUM_ITEMS)]],
            reorders=never_again(NUM_ITEMS),
        ),
        bundles={"m": open_bundle(model_folder(folder, np.zeros((NUM_ITEMS + 1, 2)), version="m"))},
        rankings={"ranks": open_ranking(ranking_folder(folder, logits))},
    )
    signals = Signals(("purchase",), (1.0,), (True,))
    return BlendSearch(Scorer(kit, Rules()), users(), signals, "m", ranking_version).best()


def test_a_ranking_model_that_knows_what_is_next_is_chosen(tmp_path: Path) -> None:
    chosen = chosen_with(tmp_path, [float(item == TARGET) for item in range(1, NUM_ITEMS + 1)])

    assert chosen.blend.re_ranks and chosen.blend.rerank in RERANKS
    assert chosen.ndcg == 1.0
    assert chosen.other is not None and not chosen.other.re_ranks
    measured = {
        one.name: one for one in recommenders(chosen.blend, chosen.last_purchases, chosen.other)
    }
    assert measured[BLEND].re_ranks and measured["blend_without_model"].re_ranks
    without = measured["blend_without_ranking"].model_copy(update={"name": BLEND})
    assert without == measured[BLEND].model_copy(update={"rerank": 0, "rerank_weight": 1.0})
    assert "blend_reranked" not in measured


def test_a_ranking_model_that_brings_nothing_is_measured_and_not_chosen(tmp_path: Path) -> None:
    chosen = chosen_with(tmp_path, [0.0] * NUM_ITEMS)  # a tie: no item is better than another

    assert not chosen.blend.re_ranks
    assert chosen.other is not None and chosen.other.re_ranks
    names = [one.name for one in recommenders(chosen.blend, chosen.last_purchases, chosen.other)]
    assert "blend_reranked" in names and "blend_without_ranking" not in names


def test_the_parts_of_histories_that_were_used_last_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[float] = []

    def counted(users: UserBatch, kit: Kit, fading: Fading) -> ItemItemParts:
        made.append(fading.decay)
        return item_item_parts(users, kit, fading)

    monkeypatch.setattr("recsys.scoring.scorer.item_item_parts", counted)
    signals = Signals(("purchase",), (1.0,), (True,))
    search = BlendSearch(Scorer(kit_of(NUM_ITEMS), Rules()), users(), signals, "m")
    decays = (0.5, 0.7, 0.5, 0.9, 0.5, 0.7)  # 0.7, and not 0.5, makes room for 0.9
    for n, decay in enumerate(
        decays, start=1
    ):  # none is the same recipe again, which would ask for nothing
        search.ndcg(Recipe(name=BLEND, repeat=float(n), decay=decay))

    assert made == [0.5, 0.7, 0.9, 0.7]


def test_without_a_ranking_model_nothing_is_tried(tmp_path: Path) -> None:
    logits = [float(item == TARGET) for item in range(1, NUM_ITEMS + 1)]

    chosen = chosen_with(tmp_path, logits, ranking_version="")

    assert chosen.other is None and not chosen.blend.re_ranks
    names = [one.name for one in recommenders(chosen.blend, chosen.last_purchases, chosen.other)]
    assert not {"blend_reranked", "blend_without_ranking"} & set(names)
