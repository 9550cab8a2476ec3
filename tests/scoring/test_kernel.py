"""What the compiled stage 1 promises: the exact ranking, on any threads, in any batches, as numpy has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.records import Recipe
from recsys.scoring.bundle import open_bundle
from recsys.scoring.kit import Kit
from recsys.scoring.lists import Lists
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.select import Best, library
from recsys.scoring.top_items import largest_norm, top_items
from recsys.scoring.users import UserBatch
from tests.scoring.test_stage_one import recipes, worlds
from tests.scoring.worlds import kit_of, model_folder, reorders_of, users_of

pytestmark = pytest.mark.skipif(library() is None, reason="needs the compiled kernel: make setup")

Floats = np.ndarray[Any, Any]
USERS, ITEMS, DIM = 60, 2600, 19
POPULARITY = Recipe(name="popularity", popularity=1.0)


def plain(rng: np.random.Generator) -> tuple[Floats, Floats]:
    return rng.normal(size=(USERS, DIM)), rng.normal(size=(ITEMS, DIM))


def ties(rng: np.random.Generator) -> tuple[Floats, Floats]:
    return rng.integers(-1, 2, size=(USERS, DIM)), rng.integers(-1, 2, size=(ITEMS, DIM))


def duplicates(rng: np.random.Generator) -> tuple[Floats, Floats]:
    users, items = plain(rng)
    return users, items[rng.integers(0, 40, size=ITEMS)]


def nearly_ties(rng: np.random.Generator) -> tuple[Floats, Floats]:
    users, items = plain(rng)
    return users, items[:1] + 1e-6 * items


def huge_and_tiny(rng: np.random.Generator) -> tuple[Floats, Floats]:
    users, items = plain(rng)
    return (
        users * 10 ** rng.uniform(-18, 18, size=(USERS, 1)),
        items * 10 ** rng.uniform(-18, 18, size=(ITEMS, 1)),
    )


def beyond_float32(rng: np.random.Generator) -> tuple[Floats, Floats]:
    users, items = plain(rng)
    users[::2] *= 1e37  # products overflow
    users[1::2] *= 1e-37  # products are denormal, or 0
    return users, items * 10 ** rng.uniform(-6, 6, size=(ITEMS, 1))


def zeros(rng: np.random.Generator) -> tuple[Floats, Floats]:
    users, items = plain(rng)
    users[::3], items[rng.random(ITEMS) < 0.99] = 0, 0
    return users, items


KINDS = (plain, ties, duplicates, nearly_ties, huge_and_tiny, beyond_float32, zeros)


def best(users: Floats, items: Floats, m: int, *, threads: int = 1) -> Best:
    return top_items(users, items, m, largest=largest_norm(items), threads=threads)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_the_ranking_is_the_brute_force_one_in_double_precision(kind: Any, seed: int) -> None:
    users, items = (a.astype(np.float32) for a in kind(np.random.default_rng(seed)))
    exact = users.astype(np.float64) @ items.astype(np.float64).T
    wanted = np.argsort(-exact, axis=1, kind="stable")[:, :100]  # ties to the smaller number

    found = best(users, items, 100)

    assert found.lengths_B.tolist() == [100] * USERS
    norms = np.linalg.norm(items.astype(np.float64), axis=1)
    sizes = np.linalg.norm(users.astype(np.float64), axis=1)
    for b in range(USERS):
        ours, theirs = found.nums_BM[b], wanted[b]
        assert len(set(ours.tolist())) == 100
        differ = ours != theirs
        gap = np.abs(exact[b, ours] - exact[b, theirs])[differ]
        assert (gap < 1e-6 * sizes[b] * np.minimum(norms[ours], norms[theirs])[differ]).all()


def test_equal_scores_go_by_number_also_where_they_are_more_than_the_kernel_keeps() -> None:
    items = np.ones((20_000, DIM), dtype=np.float32)
    items[15_000] = 2  # found after the ties have filled the room
    users = np.array([[1.0] * DIM, [0.0] * DIM, [-1.0] * DIM], dtype=np.float32)

    found = best(users, items, 4)

    assert found.nums_BM.tolist() == [[15_000, 0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_threads_and_batches_give_the_same_bytes(kind: Any) -> None:
    users, items = (a.astype(np.float32) for a in kind(np.random.default_rng(7)))
    whole = best(users, items, 30)

    for threads in (2, 3):
        assert bytes_of(best(users, items, 30, threads=threads)) == bytes_of(whole)
    for size in (1, 13, 29):
        parts = [best(users[b : b + size], items, 30) for b in range(0, USERS, size)]
        joined = Best(*(np.concatenate(cut) for cut in zip(*parts, strict=True)))
        assert bytes_of(joined) == bytes_of(whole)


def test_a_batch_of_several_chunks_gives_the_same_bytes() -> None:
    rng = np.random.default_rng(3)
    users = rng.normal(size=(2500, DIM)).astype(np.float32)
    items = rng.normal(size=(700, DIM)).astype(np.float32)

    whole, cut = best(users, items, 5, threads=2), best(users[1000:1300], items, 5)

    np.testing.assert_array_equal(whole.nums_BM[1000:1300], cut.nums_BM)
    np.testing.assert_array_equal(whole.scores_BM[1000:1300], cut.scores_BM)


def test_a_catalogue_on_disk_gives_the_same_bytes_and_is_not_copied(tmp_path: Path) -> None:
    users, items = (a.astype(np.float32) for a in plain(np.random.default_rng(5)))
    np.save(tmp_path / "items.npy", items)
    mapped = np.load(tmp_path / "items.npy", mmap_mode="r")
    assert np.shares_memory(np.ascontiguousarray(mapped), mapped), "as the kernel is given it"

    assert bytes_of(best(users, mapped, 40)) == bytes_of(best(users, items, 40))


@pytest.mark.parametrize("cut", [1, 511, 512, 513, 2000])
def test_the_best_of_a_catalogue_are_the_best_of_its_parts(cut: int) -> None:
    users, items = (a.astype(np.float32) for a in duplicates(np.random.default_rng(11)))
    whole = best(users, items, 25)
    parts = [best(users, items[:cut], 25), best(users, items[cut:], 25)]

    for b in range(USERS):
        pairs = [
            (-float(score), first + int(num))
            for part, first in zip(parts, (0, cut), strict=True)
            for score, num in zip(
                part.scores_BM[b, : part.lengths_B[b]], part.nums_BM[b], strict=False
            )
        ]
        assert whole.nums_BM[b].tolist() == [num for _, num in sorted(pairs)[:25]]


def test_more_places_than_items_and_catalogues_of_any_width() -> None:
    rng = np.random.default_rng(1)
    for width in (1, 2, 31, 32, 33, 511, 512, 513):
        items = rng.normal(size=(width, 3)).astype(np.float32)
        users = rng.normal(size=(15, 3)).astype(np.float32)

        found = best(users, items, 700)

        wanted = np.argsort(-(users.astype(np.float64) @ items.T.astype(np.float64)), axis=1)
        np.testing.assert_array_equal(found.nums_BM, wanted)


def test_no_users() -> None:
    items = np.ones((3, 2), dtype=np.float32)
    assert best(np.zeros((0, 2), np.float32), items, 5).nums_BM.shape == (0, 3)


@st.composite
def ruled_worlds(draw: st.DrawFn) -> tuple[Kit, Floats, UserBatch]:
    """``worlds`` with a catalogue of its own for a segment, and items hidden from single users."""
    kit, vectors, users = draw(worlds())
    nums = st.integers(1, kit.width + 3)  # some newer than the kit
    hidden = [draw(st.lists(nums, max_size=4, unique=True)) for _ in range(len(users))]
    allowed = np.stack([kit.allowed, kit.allowed.copy()])
    allowed[1, draw(st.lists(st.integers(1, kit.width - 1), max_size=3))] = False
    offsets = np.cumsum([0, *map(len, hidden)])
    return (
        replace(kit, segment_allowed=allowed),
        vectors,
        replace(
            users,
            hidden_offsets=offsets,
            hidden_nums=np.array([num for row in hidden for num in row], np.int32),
        ),
    )


@settings(max_examples=60)
@given(world=ruled_worlds(), recipe=recipes, n=st.integers(1, 50), seen=st.booleans())
def test_numpy_gives_the_same_lists(
    tmp_path_factory: pytest.TempPathFactory,
    world: tuple[Kit, Floats, UserBatch],
    recipe: Recipe,
    n: int,
    seen: bool,
) -> None:
    kit, vectors, users = world
    bundle = open_bundle(model_folder(tmp_path_factory.mktemp("model"), vectors))
    kit = replace(kit, bundles={"hand-made": bundle})
    entry, rules = Entry(recipe, "hand-made"), Rules(exclude_seen=seen)

    compiled = Scorer(kit, rules, batch_users=4, threads=2).lists(users, entry, n)
    in_numpy = Scorer(kit, rules, compiled=False).lists(users, entry, n)

    same(compiled, in_numpy)
    for b in range(len(users)):
        nums = compiled.item_nums[compiled.offsets[b] : compiled.offsets[b + 1]]
        assert kit.allowed_in(int(users.segments[b]))[nums].all()
        mine = users.hidden_nums[users.hidden_offsets[b] : users.hidden_offsets[b + 1]]
        assert not np.isin(nums, mine).any()


def test_a_large_shop_has_the_same_lists_compiled_and_in_numpy(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    num_items, num_users = 3000, 150
    pairs = [(*rng.integers(1, num_items + 1, 2).tolist(), rng.random()) for _ in range(60_000)]
    kit = kit_of(
        num_items, similarity=pairs[::2], transitions=pairs[1::2],
        buyers=[rng.integers(0, 9, num_items).tolist(), rng.integers(0, 9, num_items).tolist()],
        hidden=rng.integers(1, num_items, 300).tolist(),
    )  # fmt: skip
    vectors = rng.normal(size=(2801, 16)).astype(np.float32)
    kit = replace(kit, bundles={"hand-made": open_bundle(model_folder(tmp_path, vectors))})
    histories = [
        rng.integers(1, num_items + 1, rng.integers(0, 60)).tolist() for _ in range(num_users)
    ]
    users = users_of(
        histories, seen=[history[:9] for history in histories],
        segments=rng.integers(0, 2, num_users).tolist(),
    )  # fmt: skip
    recipe = Recipe(
        name="blend", model=0.5, similarity=0.4, transitions=0.6, repeat=0.3, popularity=0.2, decay=0.9
    )  # fmt: skip
    rules = Rules(exclude_seen=True)

    compiled, in_numpy = (
        Scorer(kit, rules, compiled=which).lists(users, Entry(recipe, "hand-made"), 100)
        for which in (True, False)
    )

    same(compiled, in_numpy)
    assert set(compiled.sources.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", range(5))
def test_item_item_sums_of_any_size_and_histories_with_repeats_give_the_lists_of_numpy(
    seed: int,
) -> None:
    """The kernel adds up in float32 first, and an item that was bought again once, with its weights added."""
    rng = np.random.default_rng(seed)
    num_items, num_users = 1500, 80
    sizes = 10.0 ** rng.uniform(-40, 12, 20_000)
    sizes[::3] = 0.25  # ties
    pairs = [(*rng.integers(1, num_items + 1, 2).tolist(), float(size)) for size in sizes]
    kit = kit_of(
        num_items, similarity=pairs[::2], transitions=pairs[1::2], reorders=reorders_of(num_items)
    )
    often = rng.integers(1, num_items + 1, 12)
    histories = [rng.choice(often, rng.integers(0, 90)).tolist() for _ in range(num_users)]
    users = users_of(histories, seen=[history[:2] for history in histories])
    for weights in (
        (0.4, 0.6, 0.3, 0.5), (1.0, 0.0, 0.0, 0.0), (0.0, 0.7, 0.1, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0),
    ):  # fmt: skip
        similarity, transitions, repeat, due = weights
        recipe = Recipe(
            name="sums", similarity=similarity, transitions=transitions, repeat=repeat, due=due, decay=0.9
        )  # fmt: skip

        compiled, in_numpy = (
            Scorer(kit, Rules(exclude_seen=True), compiled=which).lists(users, Entry(recipe), 40)
            for which in (True, False)
        )

        same(compiled, in_numpy)


def test_a_retriever_of_two_recipes_weighs_each_by_its_own() -> None:
    kit = kit_of(4, similarity=[(1, 2, 0.5)], transitions=[(1, 3, 0.4)])
    scorer, users = Scorer(kit, Rules(exclude_seen=True)), users_of([[1]], seen=[[1]])
    by_similarity = Recipe(name="one", similarity=1.0, transitions=0.1, decay=0.9)
    by_transitions = Recipe(name="other", similarity=0.1, transitions=1.0, decay=0.9)

    firsts = [
        scorer.lists(users, Entry(recipe), 1).item_nums.tolist()
        for recipe in (by_similarity, by_transitions, by_similarity)
    ]

    assert firsts == [[2], [3], [2]]


def test_popularity_alone_lists_what_nobody_bought_by_number() -> None:
    kit = kit_of(6000, buyers=[[0] * 5998 + [3, 0]])
    lists = Scorer(kit, Rules()).lists(users_of([[], [4000]]), Entry(POPULARITY), 5)

    assert lists.item_nums.tolist() == [5999, 1, 2, 3, 4] * 2
    same(lists, Scorer(kit, Rules(), compiled=False).lists(users_of([[], [4000]]), Entry(POPULARITY), 5))  # fmt: skip


def test_a_library_that_is_missing_or_none_leaves_numpy(tmp_path: Path) -> None:
    assert library(tmp_path / "libselect.so") is None
    (tmp_path / "other.so").write_text("not a library")
    assert library(tmp_path / "other.so") is None


def bytes_of(found: Best) -> list[bytes]:
    return [
        found.nums_BM.tobytes(), found.scores_BM.tobytes(), found.sources_BM.tobytes(), found.lengths_B.tobytes(),
    ]  # fmt: skip


def same(one: Lists, other: Lists) -> None:
    np.testing.assert_array_equal(one.offsets, other.offsets)
    np.testing.assert_array_equal(one.item_nums, other.item_nums)
    assert one.scores.tobytes() == other.scores.tobytes()
    np.testing.assert_array_equal(one.sources, other.sources)
