"""The first pass on a GPU finds the lists of the others; where there is none, its code runs on the processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
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
from recsys.scoring import spark
from recsys.scoring.bundle import open_bundle
from recsys.scoring.kit import Kit, save_kit
from recsys.scoring.on_device import OnDevice
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.select import Asked, Flat, library, select
from recsys.scoring.spark import ScoringTask
from recsys.scoring.top_items import largest_norm, vectors_alone
from recsys.scoring.users import Signals, UserBatch
from tests.scoring.test_kernel import KINDS, Floats, bytes_of, ruled_worlds, same
from tests.scoring.test_stage_one import recipes
from tests.scoring.worlds import kit_of, model_folder, reorders_of, users_of

pytestmark = pytest.mark.skipif(library() is None, reason="needs the compiled kernel: make setup")

has_gpu = torch.cuda.is_available()
GPU = (pytest.mark.gpu, pytest.mark.skipif(not has_gpu, reason="no GPU"))
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
RECIPE = Recipe(
    name="blend", model=0.5, similarity=0.4, transitions=0.6, repeat=0.3, due=0.5, popularity=0.2, decay=0.9
)  # fmt: skip


class Finder(OnDevice):
    """Remembers how many candidates each user had."""

    def __init__(self, device: str, cells: int | None = None) -> None:
        super().__init__(device)
        self._cells = cells or self._cells
        self.counts: list[int] = []

    def candidates(self, asked: Asked) -> Flat:
        found = super().candidates(asked)
        self.counts += np.diff(found.offsets).tolist()
        return found


def scorer_with(finder: Finder, kit: Kit, rules: Rules, *, batch_users: int = 1024) -> Scorer:
    scorer = Scorer(kit, rules, batch_users=batch_users, threads=2)
    scorer._retriever._finder = finder
    return scorer


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_vectors_have_the_bytes_of_the_compiled_pass(device: str, kind: Any, seed: int) -> None:
    users, items = (a.astype(np.float32) for a in kind(np.random.default_rng(seed)))
    asked = vectors_alone(users, items, 100, largest=largest_norm(items))
    kernel = library()
    assert kernel is not None

    found = replace(asked, candidates=OnDevice(device).candidates(asked))

    assert found.candidates is not None and np.diff(found.candidates.offsets).min() >= 100
    assert bytes_of(select(kernel, found, threads=2)) == bytes_of(select(kernel, asked, threads=1))


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40)
@given(world=ruled_worlds(), recipe=recipes, n=st.integers(1, 50), seen=st.booleans())
def test_rules_and_recipes_give_the_lists_of_the_processor(
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

    found = scorer_with(Finder(device), kit, rules, batch_users=3).lists(users, entry, n)

    same(found, Scorer(kit, rules).lists(users, entry, n))


@pytest.mark.parametrize("device", DEVICES)
def test_a_large_shop_has_the_same_lists_however_many_users_fit_at_a_time(
    device: str, tmp_path: Path
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

    for finder in (Finder(device), Finder(device, cells=7 * kit.width)):
        same(scorer_with(finder, kit, rules).lists(users, entry, 100), wanted)
        assert len(finder.counts) == num_users


@pytest.mark.parametrize("device", DEVICES)
def test_where_nothing_speaks_for_most_items_few_of_them_are_candidates(device: str) -> None:
    kit = kit_of(5000, similarity=[(1, num, 0.5) for num in range(4900, 4950)])
    users, entry = users_of([[1], [2]]), Entry(Recipe(name="similar", similarity=1.0))
    finder = Finder(device)

    found = scorer_with(finder, kit, Rules()).lists(users, entry, 100)

    same(found, Scorer(kit, Rules()).lists(users, entry, 100))
    assert finder.counts == [150, 100]


@pytest.mark.skipif(has_gpu, reason="about machines without a GPU")
def test_a_machine_without_a_gpu_says_what_to_do(tmp_path: Path) -> None:
    task = ScoringTask(
        str(save_kit(kit_of(2), {}, tmp_path)), Rules(), Signals((), (), ()), 9, 1, "cuda"
    )

    with pytest.raises(MissingInput, match=r"torch finds 0 here: set scoring\.device=cpu, or give"):
        task.scorer()


def test_what_a_device_finds_needs_the_kernel() -> None:
    with pytest.raises(MissingInput, match=r"scoring\.device is cuda:0, .*`make setup` builds it"):
        Scorer(kit_of(2), Rules(), device="cuda:0", compiled=False)


def test_a_task_takes_the_gpu_that_spark_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = SimpleNamespace(resources=lambda: {"gpu": SimpleNamespace(addresses=["3"])})
    monkeypatch.setattr(TaskContext, "get", lambda: given)
    assert spark._gpu_of_task() == "cuda:3"

    monkeypatch.setattr(TaskContext, "get", lambda: SimpleNamespace(resources=dict))
    assert spark._gpu_of_task() == "cuda:0"
