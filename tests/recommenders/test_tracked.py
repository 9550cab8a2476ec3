"""Models of an MLflow run: which of them may be measured, and what it scores."""

from __future__ import annotations

import shutil
from datetime import date
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch

from recsys.config import RecsysConfig
from recsys.config.sections import TrainingConfig
from recsys.errors import CorruptArtifact, MissingInput, Refused
from recsys.evaluation.contestants import openers
from recsys.evaluation.splits import Window
from recsys.models.sequential import gaps_between
from recsys.recommenders import Users
from recsys.recommenders.tracked import Tracked, TrackedModel, tracked_models
from recsys.records import WEIGHTS_FILE, ModelManifest
from recsys.training import checkpoint
from recsys.training.model_folder import weights_hash, write_folder
from recsys.training.seeded import seeded
from recsys.training.sequential import model_of
from recsys.training.tracking import tracked_run
from tests.recommenders.worlds import histories

if TYPE_CHECKING:
    from recsys.evaluation.temporal_shop import TemporalShop

NUM_ITEMS, LENGTH = 9, 4
EARLY, LATE = date(2024, 4, 1), date(2024, 5, 1)
TRAINING = TrainingConfig(embedding_dim=8, num_heads=1, dropout=0.0)


def trained(config: RecsysConfig, as_of: date) -> Tracked:
    """A folder as train leaves it, with weights that nobody trained."""
    with seeded(as_of.month):
        model = model_of(TRAINING, num_items=NUM_ITEMS, history_length=LENGTH)
    arrays = {name: values.numpy() for name, values in model.state_dict().items()}
    manifest = ModelManifest(
        model_version=weights_hash(arrays), as_of=as_of, embedding_dim=8, history_length=LENGTH,
        num_items=NUM_ITEMS, epochs=1, training=TRAINING.model_dump(mode="json"),
    )  # fmt: skip
    write_folder(
        config.paths, manifest, {WEIGHTS_FILE: lambda path: checkpoint.write_arrays(path, arrays)}
    )
    return Tracked(as_of, config.paths.models / manifest.model_version)


def shop_of(cut_off: date, num_items: int = NUM_ITEMS) -> TemporalShop:
    """As much of it as is looked at."""
    window = Window(cut_off, date(2024, 6, 1))
    found = SimpleNamespace(window=window, shop=SimpleNamespace(num_items=num_items))
    return cast("TemporalShop", found)


def test_a_score_is_the_models_own_and_newer_items_are_as_its_average(config: RecsysConfig) -> None:
    tracked = trained(config, EARLY)
    model = TrackedModel(tracked, num_items=NUM_ITEMS + 2)
    users = Users(
        # The second one's newest item is newer than the model; the third knows nothing of it.
        histories([[1, 2, 3, 4, 5], [6, 11], [10]], [[-9, -7, -5, -3, -1], [-4, -2], [-1]]),
        np.array([1, 2, 3]),
    )
    scores = model.scores(users)

    with seeded(EARLY.month):
        network = model_of(TRAINING, num_items=NUM_ITEMS, history_length=LENGTH).eval()
    nums_BH, ages_BH = torch.tensor([[2, 3, 4, 5]]), torch.tensor([[7.0, 5, 3, 1]])
    with torch.no_grad():
        vector = network.user_vectors(nums_BH, gaps_between(ages_BH, torch.ones(1, 4)))
        wanted = (vector @ network.items.weight.T)[0].numpy()
    np.testing.assert_allclose(scores[0, : NUM_ITEMS + 1], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores[:2, 10:].T, [scores[:2, 1:10].mean(axis=1)] * 2, rtol=1e-5)
    assert not scores[2].any()
    np.testing.assert_allclose(model.scores(users.take(np.array([1]))), scores[[1]], rtol=1e-6)


def test_a_model_of_a_larger_catalogue_is_of_another_shop(config: RecsysConfig) -> None:
    with pytest.raises(CorruptArtifact, match="knows 9 items, and the shop has 8"):
        TrackedModel(trained(config, EARLY), num_items=NUM_ITEMS - 1)


def test_the_newest_model_that_has_not_seen_the_window_is_measured(config: RecsysConfig) -> None:
    with pytest.raises(MissingInput, match=r"no run abc: there is no .*mlflow\.db yet"):
        openers(["mlflow:abc"], config)
    early, late = trained(config, EARLY), trained(config, LATE)
    with tracked_run(config, date(2024, 6, 1), {}) as run:
        run.tag(**{"model.choosing": early.folder.name, "model.measuring": late.folder.name})
        run.tag(**{"model.release": "gone", "model.ranking_measuring": "another kind"})
        # The live settings fitted again, of the same day: not the run's own, however it is called.
        of_live = shutil.copytree(late.folder, late.folder.with_name("zz"))
        run.tag(**{"model.live": of_live.name})
    with tracked_run(config, date(2024, 6, 1), {}) as empty:
        pass
    [opener] = openers([f"mlflow:{run.run_id}"], config).values()

    assert [found.folder for found in tracked_models(config, run.run_id)] == [
        early.folder,
        late.folder,
    ]
    asked = Users(histories([[1, 2]], [[-2.0, -1.0]]), np.array([1]))
    for cut_off, wanted in ((LATE, late), (date(2024, 4, 30), early)):
        found = opener(shop_of(cut_off)).scores(asked)
        np.testing.assert_array_equal(
            found, TrackedModel(wanted, num_items=NUM_ITEMS).scores(asked)
        )
    with pytest.raises(Refused, match=r"fitted as of 2024-04-01, 2024-05-01.*from 2024-03-31 on"):
        opener(shop_of(date(2024, 3, 31)))
    with pytest.raises(MissingInput, match=f"run {empty.run_id} made no model"):
        openers([f"mlflow:{empty.run_id}"], config)
    with pytest.raises(MissingInput, match="no run abc in MLflow"):
        openers(["mlflow:abc"], config)
