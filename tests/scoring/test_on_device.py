"""The first pass on a GPU finds the lists of the others; where there is none, its code runs on the processor."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark import TaskContext

from recsys.errors import MissingInput
from recsys.records import Recipe
from recsys.scoring import plain, spark
from recsys.scoring.bundle import open_bundle
from recsys.scoring.kit import Kit
from recsys.scoring.on_device import OnDevice
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.select import largest_norm, vectors_alone
from recsys.scoring.users import UserBatch
from tests.scoring.test_kernel import ITEMS, KINDS, USERS, Floats, ruled_worlds, same
from tests.scoring.test_stage_one import recipes
from tests.scoring.worlds import kit_of, model_folder, reorders_of, users_of

has_gpu = torch.cuda.is_available()
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not has_gpu, reason="no GPU"))]
RECIPE = Recipe(
    name="blend", model=0.5, similarity=0.4, transitions=0.6, repeat=0.3, due=0.5, popularity=0.2, decay=0.9
)  # fmt: skip


def scorer_on(device: str, kit: Kit, rules: Rules, *, batch_users: int = 1024) -> Scorer:
    scorer = Scorer(kit, rules, batch_users=batch_users, compiled=False)
    scorer._retriever._first_pass = OnDevice(device)
    return scorer


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_the_ranking_is_the_brute_force_one_in_double_precision(
    device: str, kind: Any, seed: int
) -> None:
    users, items = (a.astype(np.float32) for a in kind(np.random.default_rng(seed)))
    asked = vectors_alone(users, items, 100, largest=largest_norm(items))

    with np.errstate(over="ignore"):  # a score above float32's range is infinite
        found = plain.best(asked, OnDevice(device))
        same(found, plain.best(asked))

    assert found.lengths.tolist() == [100] * USERS
    exact = users.astype(np.float64) @ items.astype(np.float64).T
    wanted_BM = np.argsort(-exact, axis=1, kind="stable")[:, :100]
    norms = np.linalg.norm(items.astype(np.float64), axis=1)
    sizes = np.linalg.norm(users.astype(np.float64), axis=1)
    for b, (ours, theirs) in enumerate(zip(found.item_nums.reshape(USERS, 100), wanted_BM, strict=True)):  # fmt: skip
        assert len(set(ours.tolist())) == 100 and ours.max() < ITEMS
        differ = ours != theirs
        gap = np.abs(exact[b, ours] - exact[b, theirs])[differ]
        assert (gap < 1e-6 * sizes[b] * np.minimum(norms[ours], norms[theirs])[differ]).all()


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40)
@given(world=ruled_worlds(), recipe=recipes, n=st.integers(1, 50), seen=st.booleans())
def test_rules_and_recipes_give_the_lists_of_numpy(
    tmp_path_factory: pytest.TempPathFactory,
    device: str,
    world: tuple[Kit, Floats, UserBatch],
    recipe: Recipe,
    n: int,
    seen: bool,
) -> None:
    kit, vectors, users = world
    bundle = open_bundle(model_folder(tmp_path_factory.mktemp("model"), vectors))
    kit = replace(kit, bundles={"hand-made": bundle})
    entry, rules = Entry(recipe, "hand-made"), Rules(exclude_seen=seen)

    found = scorer_on(device, kit, rules, batch_users=3).lists(users, entry, n)

    same(found, Scorer(kit, rules, compiled=False).lists(users, entry, n))


@pytest.mark.parametrize("device", DEVICES)
def test_a_large_shop_has_the_same_lists_however_many_users_fit_at_a_time(
    device: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    num_items, num_users = 3000, 150
    pairs = [(*rng.integers(1, num_items + 1, 2).tolist(), rng.random()) for _ in range(60_000)]
    kit = kit_of(
        num_items, similarity=pairs[::2], transitions=pairs[1::2], reorders=reorders_of(num_items),
        buyers=[rng.integers(0, 9, num_items).tolist(), rng.integers(0, 9, num_items).tolist()],
        hidden=rng.integers(1, num_items, 300).tolist(),
    )  # fmt: skip
    vectors = rng.normal(size=(2801, 16)).astype(np.float32)
    kit = replace(kit, bundles={"hand-made": open_bundle(model_folder(tmp_path, vectors))})
    histories = [rng.integers(1, num_items + 1, rng.integers(0, 60)).tolist() for _ in range(150)]
    users = users_of(
        histories, seen=[history[:9] for history in histories],
        segments=rng.integers(0, 2, num_users).tolist(),
    )  # fmt: skip
    rules, entry = Rules(exclude_seen=True), Entry(RECIPE, "hand-made")
    wanted = Scorer(kit, rules).lists(users, entry, 100)
    assert set(wanted.sources.tolist()) == {0, 1, 2, 3}

    same(scorer_on(device, kit, rules).lists(users, entry, 100), wanted)
    monkeypatch.setattr(OnDevice, "block_cells", 7 * kit.width)
    same(scorer_on(device, kit, rules).lists(users, entry, 100), wanted)


def test_float32_stays_float32_whatever_the_process_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def multiply(users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return torch.mm(users, items)

    monkeypatch.setattr(torch.Tensor, "__matmul__", multiply)
    ones = np.ones((5, 3), np.float32)
    torch.set_float32_matmul_precision("medium")
    try:
        plain.best(vectors_alone(ones, ones, 2, largest=2.0), OnDevice("cpu"))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == ["highest"]


@pytest.mark.skipif(has_gpu, reason="about machines without a GPU")
def test_a_machine_without_a_gpu_says_what_to_do() -> None:
    with pytest.raises(MissingInput, match=r"scoring\.device=cpu, or give each task a GPU"):
        Scorer(kit_of(2), Rules(), device="cuda:0")


def test_a_task_takes_the_gpu_that_spark_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = SimpleNamespace(resources=lambda: {"gpu": SimpleNamespace(addresses=["3"])})
    monkeypatch.setattr(TaskContext, "get", lambda: given)
    assert spark._gpu_of_task() == "cuda:3"

    monkeypatch.setattr(TaskContext, "get", lambda: SimpleNamespace(resources=dict))
    assert spark._gpu_of_task() == "cuda:0"
