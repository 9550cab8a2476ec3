"""Stage 2 promises: the first M items in the order of the final score, everything else as stage 1 left it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import CorruptArtifact
from recsys.records import Recipe
from recsys.scoring.kit import Kit
from recsys.scoring.lists import SOURCES, Lists
from recsys.scoring.ranking_bundle import RankingBundle, open_ranking
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.users import UserBatch
from tests.scoring.ranking_worlds import ranking_folder
from tests.scoring.reference import reference_list
from tests.scoring.worlds import kit_of, max_per, users_of

NUM_ITEMS = 5
STAGE_ONE = Recipe(name="popularity", popularity=1.0)  # items 1 to 5, in this order
BUYERS = [[100, 80, 60, 40, 20]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def ranks(models: Path, logits: Sequence[float]) -> RankingBundle:
    return open_ranking(ranking_folder(models, logits, version=f"r{len(list(models.iterdir()))}"))


def with_ranking(kit: Kit, bundle: RankingBundle) -> Kit:
    return replace(kit, rankings={"ranks": bundle})


def entry(rerank: int, weight: float = 1.0, recipe: Recipe = STAGE_ONE) -> Entry:
    recipe = recipe.model_copy(update={"rerank": rerank, "rerank_weight": weight})
    return Entry(recipe, "", "ranks")


def lists_of(lists: Lists) -> list[list[int]]:
    return [part.tolist() for part in np.split(lists.item_nums, lists.offsets[1:-1])]


@pytest.fixture(scope="module")
def reversing(models: Path) -> RankingBundle:
    """The later the item, the better."""
    return ranks(models, [1, 2, 3, 4, 5])


def shop(bundle: RankingBundle, **kit: Any) -> Scorer:
    return Scorer(with_ranking(kit_of(NUM_ITEMS, buyers=BUYERS, **kit), bundle), Rules())


def test_the_ranking_model_orders_what_stage_one_found(reversing: RankingBundle) -> None:
    lists = shop(reversing).lists(users_of([[1], [2, 3]]), entry(NUM_ITEMS), NUM_ITEMS)

    assert lists_of(lists) == [[5, 4, 3, 2, 1]] * 2
    z = np.array([2, 1, 0, -1, -2]) / np.sqrt(2)  # five numbers one apart
    np.testing.assert_allclose(lists.scores, [*z, *z], atol=1e-6)


def test_both_scores_count_by_their_weight(models: Path) -> None:
    # z of stage 1 is (2 1 0 -1 -2) / sqrt 2; one high logit has z 2, the others -1/2
    scorer = shop(ranks(models, [0, 0, 0, 9, 0]))
    user = users_of([[1]])

    light = scorer.lists(user, entry(5, 0.25), 5)
    assert lists_of(light) == [[1, 2, 4, 3, 5]]
    np.testing.assert_allclose(light.scores[2], 0.75 * -1 / np.sqrt(2) + 0.25 * 2, atol=1e-6)
    assert lists_of(scorer.lists(user, entry(5, 0.75), 5)) == [[4, 1, 2, 3, 5]]


def test_behind_the_items_that_stage_two_looks_at_stage_one_goes_on(
    reversing: RankingBundle,
) -> None:
    scorer, user = shop(reversing), users_of([[1]])

    lists = scorer.lists(user, entry(3), 5)

    assert lists_of(lists) == [[3, 2, 1, 4, 5]]
    last = lists.scores[2]
    # Item 4 has 0.2 less of the best seller's buyers than item 3, the last that was looked at; item 5 0.4.
    np.testing.assert_allclose(lists.scores[3:], [last - 0.2, last - 0.4], atol=1e-6)
    # A short list begins as the long one does: what is measured at 20 is what is published at 100.
    assert lists_of(scorer.lists(user, entry(3), 2)) == [[3, 2]]


def test_more_than_the_catalogue_is_all_of_it(reversing: RankingBundle) -> None:
    lists = shop(reversing, hidden=[5]).lists(users_of([[1]]), entry(200), 10)

    assert lists_of(lists) == [[4, 3, 2, 1]]


def test_who_the_model_knows_nothing_of_keeps_stage_one_s_list(models: Path) -> None:
    bundle = ranks(models, [1, 2, 3, 4])  # item 5 is newer than the ranking model
    scorer = shop(bundle)
    users = users_of(
        [[], [5], [1, *[5] * 8], [5, 1], [1]], user_nums=[1, 2, 3, 0, 77]
    )  # the last is newer than the model, but not what they bought

    lists = scorer.lists(users, entry(NUM_ITEMS), NUM_ITEMS)
    alone = scorer.lists(users, Entry(STAGE_ONE), NUM_ITEMS)

    first, found = lists_of(alone), lists_of(lists)
    assert found[:3] == first[:3]  # the third's newest eight, which are all that the model looks at
    assert lists.scores[:15].tolist() == alone.scores[:15].tolist()
    # An item that the ranking model does not know has its zeros: a logit of 0 here.
    assert found[3:] == [[4, 3, 2, 1, 5]] * 2


def test_ties_go_to_the_smaller_item_number(models: Path) -> None:
    lists = shop(ranks(models, [7, 7, 9, 7, 7])).lists(users_of([[1]]), entry(5), 5)

    assert lists_of(lists) == [[3, 1, 2, 4, 5]]
    same = shop(ranks(models, [7.1] * 5)).lists(users_of([[1]]), entry(5), 5)
    assert (lists_of(same), same.scores.tolist()) == ([[1, 2, 3, 4, 5]], [0.0] * 5)


def test_sources_are_those_of_stage_one(reversing: RankingBundle) -> None:
    kit = kit_of(NUM_ITEMS, buyers=[[9, 0, 0, 0, 0]], similarity=[(3, 2, 1.0)])
    recipe = Recipe(name="blend", popularity=0.1, similarity=1.0, repeat=1.0)

    lists = Scorer(with_ranking(kit, reversing), Rules()).lists(
        users_of([[3]]), entry(3, recipe=recipe), 3
    )

    assert [(i, SOURCES[s]) for i, s in zip(lists.item_nums, lists.sources, strict=True)] == [
        (3, "repeat"), (2, "similar"), (1, "popular"),
    ]  # fmt: skip


def test_a_list_that_a_rule_shortens_is_filled_from_behind_stage_two(
    models: Path,
) -> None:
    # 60 best sellers of one category, then 3 items of another; stage 2 sees ten and wants the tenth first
    kit = kit_of(63, buyers=[[100 - i for i in range(63)]], categories=[0] * 60 + [1] * 3)
    bundle = ranks(models, [float(i) for i in range(63)])
    scorer = Scorer(with_ranking(kit, bundle), Rules(max_per=(("category", 2),)))

    lists = scorer.lists(users_of([[1], []]), entry(10), 4)

    assert lists_of(lists) == [[10, 9, 61, 62], [1, 2, 61, 62]]


def test_a_ranking_model_that_gives_nan_is_refused(models: Path) -> None:
    with pytest.raises(CorruptArtifact, match=r"ranking\.onnx gives NaN or infinity for 1 of 1"):
        shop(ranks(models, [np.inf, 1, 1, 1, 1])).lists(users_of([[2]]), entry(5), 5)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Kit, list[int], UserBatch]:
    """A catalogue of which the ranking model knows the older items, and users of all kinds."""
    num_items = draw(st.integers(1, 30))
    num = st.integers(1, num_items)
    kit = kit_of(
        num_items,
        similarity=draw(st.lists(st.tuples(num, num, st.sampled_from([0.25, 1.0])), max_size=30)),
        buyers=[draw(st.lists(st.integers(0, 5), min_size=num_items, max_size=num_items))],
        hidden=draw(st.lists(num, max_size=3)),
        categories=draw(st.lists(st.integers(-1, 2), min_size=num_items, max_size=num_items)),
        brands=draw(st.lists(st.integers(-1, 1), min_size=num_items, max_size=num_items)),
    )
    known = draw(st.integers(1, num_items))
    logits = draw(st.lists(st.integers(-3, 3), min_size=known, max_size=known))
    histories = draw(st.lists(st.lists(num, max_size=6), min_size=1, max_size=6))
    users = users_of(
        histories,
        seen=[draw(st.lists(num, max_size=4, unique=True)) for _ in histories],
        user_nums=[draw(st.integers(0, 12)) for _ in histories],
    )
    return kit, logits, users


recipes = st.builds(
    Recipe,
    name=st.just("any"),
    similarity=st.sampled_from([0.0, 0.4]),
    repeat=st.sampled_from([0.0, 1.0]),
    popularity=st.sampled_from([0.0, 1.0]),
)


@settings(max_examples=30)
@given(
    world=worlds(),
    recipe=recipes,
    rerank=st.integers(1, 40),
    weight=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    n=st.integers(1, 12),
    rules=st.builds(Rules, st.booleans(), max_per),
    batch_users=st.integers(1, 6),
)
def test_lists_agree_with_the_definition(
    models: Path,
    world: tuple[Kit, list[int], UserBatch],
    recipe: Recipe,
    rerank: int,
    weight: float,
    n: int,
    rules: Rules,
    batch_users: int,
) -> None:
    kit, logits, users = world
    kit = with_ranking(kit, ranks(models, logits))
    scorer = Scorer(kit, rules, batch_users=batch_users)

    lists = scorer.lists(users, entry(rerank, weight, recipe), n)

    alone = replace(rules, max_per=())
    whole = Scorer(kit, alone).lists(users, Entry(recipe), kit.width)
    if weight == 0:
        same = scorer.lists(users, Entry(recipe), n)
        assert all(
            np.array_equal(getattr(lists, name), getattr(same, name))
            for name in ("offsets", "item_nums", "scores", "sources")
        )
    for b, found in enumerate(lists_of(lists)):
        places = slice(whole.offsets[b], whole.offsets[b + 1])
        order = whole.item_nums[places].tolist()
        if weight:
            order = reordered(users, b, order, whole.scores[places], logits, rerank, weight)
        # In that order, under the list rules.
        places_of = {item: -float(place) for place, item in enumerate(order)}
        scores = [places_of.get(item, -np.inf) for item in range(kit.width)]
        shown = replace(kit, allowed=np.isfinite(scores))
        assert found == reference_list(users, b, shown, scores, n, max_per=rules.max_per)
        assert (np.diff(lists.scores[lists.offsets[b] : lists.offsets[b + 1]]) <= 0).all()


def reordered(
    users: UserBatch,
    b: int,
    order: list[int],
    scores: np.ndarray[Any, Any],
    logits: list[int],
    rerank: int,
    weight: float,
) -> list[int]:
    """Stage 2 as the definition reads."""
    history = users.history_nums[users.history_offsets[b] : users.history_offsets[b + 1]]
    if not any(item <= len(logits) for item in history[-3:]):
        return order
    head = order[:rerank]
    values = [logits[item - 1] if item <= len(logits) else 0 for item in head]
    z = (1 - weight) * _z(scores[: len(head)]) + weight * _z(np.array(values, dtype=float))
    final = dict(zip(head, np.round(z, 6).astype(np.float32).tolist(), strict=True))
    return sorted(head, key=lambda item: (-final[item], item)) + order[rerank:]


def _z(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values = values.astype(np.float64)
    if len(set(values.tolist())) < 2:
        return np.zeros(len(values))
    return np.asarray((values - values.mean()) / values.std())
