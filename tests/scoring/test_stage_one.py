"""What stage 1 promises, against the definition and on the edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import MissingInput
from recsys.records import Recipe
from recsys.scoring.bundle import open_bundle
from recsys.scoring.kit import Kit
from recsys.scoring.lists import SOURCES, Lists
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.users import UserBatch
from tests.scoring.reference import reference_list, reference_scores
from tests.scoring.worlds import kit_of, max_per, model_folder, reorders_of, users_of

DIM = 4
EVERYTHING = Recipe(
    name="blend", model=0.5, similarity=0.4, transitions=0.6, repeat=0.3, popularity=0.2, decay=0.7
)
POPULARITY = Recipe(name="popularity", popularity=1.0)

# Small integers held in float32 keep dot products exact, so equal scores are real ties.
exact_f32 = st.integers(-3, 3)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Kit, np.ndarray[Any, Any], UserBatch]:
    """A catalogue of which the model knows the older items, and users of all kinds."""
    num_items = draw(st.integers(1, 40))
    known = draw(st.integers(1, num_items))
    vectors = draw(
        st.lists(st.lists(exact_f32, min_size=DIM, max_size=DIM), min_size=known, max_size=known)
    )
    num = st.integers(1, num_items)
    pairs = st.lists(st.tuples(num, num, st.sampled_from([0.25, 0.5, 1.0])), max_size=30)
    row = st.lists(st.integers(0, 5), min_size=num_items, max_size=num_items)
    kit = kit_of(
        num_items,
        similarity=draw(pairs), transitions=draw(pairs), buyers=[draw(row), draw(row)],
        hidden=draw(st.lists(num, max_size=3)),
        categories=draw(st.lists(st.integers(-1, 2), min_size=num_items, max_size=num_items)),
        brands=draw(st.lists(st.integers(-1, 1), min_size=num_items, max_size=num_items)),
        reorders=reorders_of(num_items, seed=draw(st.integers(0, 3))),
    )  # fmt: skip
    histories = draw(st.lists(st.lists(num, max_size=12), min_size=1, max_size=6))
    users = users_of(
        histories,
        seen=[draw(st.lists(num, max_size=4, unique=True)) for _ in histories],
        segments=[draw(st.integers(0, 1)) for _ in histories],
        weights=[[draw(st.sampled_from([0.0, 0.5, 1.0])) for _ in h] for h in histories],
        targets=[[draw(st.booleans()) for _ in h] for h in histories],
    )
    return kit, np.array([[0] * DIM, *vectors], dtype=np.float32), users


recipes = st.builds(
    Recipe,
    name=st.just("any"),
    model=st.sampled_from([0.0, 0.5, 2.0]),
    similarity=st.sampled_from([0.0, 0.4]),
    transitions=st.sampled_from([0.0, 0.6]),
    repeat=st.sampled_from([0.0, 1.0]),
    due=st.sampled_from([0.0, 1.5]),
    popularity=st.sampled_from([0.0, 0.1]),
    decay=st.sampled_from([0.0, 0.5, 1.0]),
    targets_only=st.booleans(),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def with_model(kit: Kit, vectors: np.ndarray[Any, Any], folder: Path) -> Kit:
    version = f"m{len(list(folder.iterdir()))}"
    bundle = open_bundle(model_folder(folder, vectors, version=version))
    kit.bundles["hand-made"] = bundle  # type: ignore[index]
    return kit


def lists_of(lists: Lists) -> list[list[int]]:
    return [part.tolist() for part in np.split(lists.item_nums, lists.offsets[1:-1])]


@settings(max_examples=50)
@given(
    world=worlds(),
    recipe=recipes,
    n=st.integers(1, 15),
    rules=st.builds(Rules, st.booleans(), max_per),
)
def test_lists_agree_with_the_definition(
    folder: Path,
    world: tuple[Kit, np.ndarray[Any, Any], UserBatch],
    recipe: Recipe,
    n: int,
    rules: Rules,
) -> None:
    kit, vectors, users = world
    scorer = Scorer(with_model(kit, vectors, folder), rules, batch_users=4)

    lists = scorer.lists(users, Entry(recipe, "hand-made"), n)

    for b, found in enumerate(lists_of(lists)):
        scores = reference_scores(users, b, kit, recipe, vectors if recipe.model else None)
        wanted = reference_list(
            users, b, kit, scores, n, exclude_seen=rules.exclude_seen, max_per=rules.max_per
        )
        places = slice(lists.offsets[b], lists.offsets[b + 1])
        np.testing.assert_allclose(lists.scores[places], [scores[i] for i in found], atol=2e-6)
        # The mean in another order may move a score by one step of the rounding.
        np.testing.assert_allclose(
            [scores[i] for i in found], [scores[i] for i in wanted], atol=2e-6
        )
        assert len(found) == len(wanted)


@settings(max_examples=40)
@given(world=worlds(), recipe=recipes, cut=st.integers(0, 6), batch_users=st.integers(1, 6))
def test_batch_boundaries_do_not_change_answers(
    folder: Path,
    world: tuple[Kit, np.ndarray[Any, Any], UserBatch],
    recipe: Recipe,
    cut: int,
    batch_users: int,
) -> None:
    kit, vectors, users = world
    kit = with_model(kit, vectors, folder)
    whole = Scorer(kit, Rules(), batch_users=100).lists(users, Entry(recipe, "hand-made"), 5)
    scorer = Scorer(kit, Rules(), batch_users=batch_users)
    cut = min(cut, len(users))
    parts = [
        scorer.lists(part, Entry(recipe, "hand-made"), 5)
        for part in (users.slice(0, cut), users.slice(cut, len(users)))
        if len(part)
    ]

    np.testing.assert_array_equal(np.concatenate([p.item_nums for p in parts]), whole.item_nums)
    np.testing.assert_array_equal(np.concatenate([p.scores for p in parts]), whole.scores)
    np.testing.assert_array_equal(np.concatenate([p.sources for p in parts]), whole.sources)


def test_ties_go_to_the_smaller_item_number_also_past_the_grouped_threshold() -> None:
    kit = kit_of(
        5000, buyers=[[1.0] * 5000]
    )  # far more than 16 items per place: the grouped search

    lists = Scorer(kit, Rules()).lists(users_of([[], [7]]), Entry(POPULARITY), 100)

    assert lists_of(lists) == [list(range(1, 101))] * 2


def test_real_vectors_give_the_brute_force_order_whatever_the_batch(folder: Path) -> None:
    rng = np.random.default_rng(17)
    vectors = rng.normal(size=(3001, DIM)) * 10 ** rng.uniform(
        -3, 3, size=(3001, 1)
    )  # huge and tiny norms
    vectors[0] = 0
    vectors[100:120] = vectors[99]  # duplicates: ties
    kit = with_model(kit_of(3000), vectors.astype(np.float32), folder)
    users = users_of([rng.integers(1, 3001, size=rng.integers(1, 8)).tolist() for _ in range(40)])
    entry = Entry(Recipe(name="model", model=1.0), "hand-made")

    lists = Scorer(kit, Rules(), batch_users=40).lists(users, entry, 50)
    alone = [
        Scorer(kit, Rules(), batch_users=1).lists(users.slice(b, b + 1), entry, 50)
        for b in range(40)
    ]

    for b, found in enumerate(lists_of(lists)):
        scores = reference_scores(users, b, kit, entry.recipe, vectors.astype(np.float32))
        wanted = reference_list(users, b, kit, scores, 50)
        np.testing.assert_allclose(
            [scores[i] for i in found], [scores[i] for i in wanted], atol=2e-6
        )
        assert found == alone[b].item_nums.tolist()
        assert (
            lists.scores[lists.offsets[b] : lists.offsets[b + 1]].tolist()
            == alone[b].scores.tolist()
        )


def test_a_user_without_history_gets_the_popular_list_of_their_segment() -> None:
    kit = kit_of(3, buyers=[[90, 100, 0], [0, 0, 400]])
    scorer = Scorer(kit, Rules())

    lists = scorer.lists(
        users_of([[], []], segments=[0, 1]), Entry(EVERYTHING.model_copy(update={"model": 0.0})), 2
    )

    assert lists_of(lists) == [[2, 1], [3, 2]]
    assert [SOURCES[s] for s in lists.sources] == ["popular"] * 4


def test_one_item_catalogue(folder: Path) -> None:
    kit = with_model(kit_of(1, buyers=[[3]]), np.array([[0] * DIM, [1] * DIM]), folder)

    lists = Scorer(kit, Rules()).lists(users_of([[1], []]), Entry(EVERYTHING, "hand-made"), 10)

    assert lists_of(lists) == [[1], [1]]


def test_all_masked_gives_empty_lists() -> None:
    kit = kit_of(2, buyers=[[1, 1]], hidden=[1])
    users = users_of([[1, 2], [1]], seen=[[1, 2], [1]])

    lists = Scorer(kit, Rules(exclude_seen=True)).lists(users, Entry(POPULARITY), 5)

    assert lists_of(lists) == [[], [2]]


def test_no_users_give_no_lists() -> None:
    lists = Scorer(kit_of(2), Rules()).lists(users_of([]), Entry(POPULARITY), 5)

    assert len(lists) == 0


def test_a_list_that_a_rule_shortens_is_filled_from_deeper_down() -> None:
    # 60 best sellers of one category, then 3 items of another
    kit = kit_of(63, buyers=[[100 - i for i in range(63)]], categories=[0] * 60 + [1] * 3)

    lists = Scorer(kit, Rules(max_per=(("category", 2),))).lists(
        users_of([[], []]), Entry(POPULARITY), 4
    )

    assert lists_of(lists) == [[1, 2, 61, 62]] * 2


def test_sources_name_the_largest_part(folder: Path) -> None:
    vectors = np.zeros((6, DIM))
    vectors[5, 0] = 9.0  # item 5 alone has a vector that counts
    vectors[4, 0] = 9.0
    kit = with_model(kit_of(5, similarity=[(4, 2, 1.0)], buyers=[[0, 0, 9, 0, 0]]), vectors, folder)
    recipe = Recipe(name="blend", model=0.1, similarity=0.5, repeat=1.0, popularity=0.5)

    lists = Scorer(kit, Rules()).lists(users_of([[4]]), Entry(recipe, "hand-made"), 5)

    sources = dict(zip(lists.item_nums.tolist(), (SOURCES[s] for s in lists.sources), strict=True))
    assert sources == {4: "repeat", 2: "similar", 3: "popular", 5: "model", 1: "model"}


def test_an_item_newer_than_the_model_enters_through_item_item(folder: Path) -> None:
    vectors = np.array([[0] * DIM, [1, 0, 0, 0], [0, 1, 0, 0]], dtype=np.float32)
    kit = with_model(kit_of(3, similarity=[(1, 3, 1.0)]), vectors, folder)  # item 3 has no vector

    recipe = EVERYTHING.model_copy(update={"repeat": 0.1})

    lists = Scorer(kit, Rules()).lists(users_of([[1], [3]]), Entry(recipe, "hand-made"), 3)

    assert lists_of(lists)[0][0] == 3
    assert lists_of(lists)[1][0] == 3  # known by nothing but the repeat


def test_what_is_due_is_not_weighed_where_nothing_says_when() -> None:
    """A lake whose candidates were built before there were intervals."""
    scorer = Scorer(kit_of(2), Rules())

    with pytest.raises(
        MissingInput, match=r"no re-order intervals as of 2024-06-01.*build_candidates"
    ):
        scorer.lists(users_of([[1]]), Entry(Recipe(name="due", due=1.0)), 2)
