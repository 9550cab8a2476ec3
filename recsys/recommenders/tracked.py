"""The sequential model of a night, found by its MLflow run.

Shape suffixes: B users, N catalogue (num_items + 1), M items that the model knows (and item 0), D embedding width.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from recsys.config import RecsysConfig
from recsys.errors import CorruptArtifact, MissingInput
from recsys.recommenders.shop import Scores, Shop, Users
from recsys.records import ModelManifest
from recsys.training.histories_files import FlatHistories
from recsys.training.tracking import models_of_run
from recsys.training.trained import TrainedModel


class Tracked(NamedTuple):
    """A model that a run trained."""

    as_of: date
    """It knows what was before this day."""
    folder: Path


def tracked_models(config: RecsysConfig, run_id: str) -> list[Tracked]:
    """Those whose folders are still there, by cut-off: a night trains one per cut-off.

    Raises:
        MissingInput: no such run, or none of its models is there any more.
    """
    versions = set(models_of_run(config, run_id))
    folders = [config.paths.models / version for version in sorted(versions)]
    found = [Tracked(ModelManifest.read(path).as_of, path) for path in folders if path.exists()]
    if not found:
        raise MissingInput(
            f"none of the {len(versions)} models of run {run_id} is in {config.paths.models}: clean_up took them, or "
            "they were trained elsewhere; train again for that day"
        )
    return sorted(found)


class TrackedModel:
    """Scores of a model that was trained before; as in scoring, items newer than it count as its average item."""

    def __init__(self, tracked: Tracked, *, num_items: int) -> None:
        """``num_items``: of the shop that it is asked about.

        Raises:
            MissingInput, CorruptArtifact: the model's folder is not whole, or it is of another shop.
        """
        self._model = TrainedModel(tracked.folder)
        self._num_items = num_items
        if (known := self._model.manifest.num_items) > num_items:
            raise CorruptArtifact(
                f"{tracked.folder} knows {known} items, and the shop has {num_items}: it was trained with another "
                "vocabulary; train again for that day"
            )

    def fit(self, shop: Shop) -> Self:
        """It was fitted; whoever opened it has looked when."""
        return self

    def scores(self, users: Users) -> Scores:
        items_MD = self._model.item_vectors
        histories = users.histories
        users_BD = self._model.user_vectors(
            FlatHistories.of(
                histories.offsets, histories.item_nums, histories.days, num_items=len(items_MD) - 1, as_of=0.0
            )
        )  # fmt: skip
        found_BN = np.empty((len(users), self._num_items + 1), dtype=np.float32)
        found_BN[:, : len(items_MD)] = users_BD @ items_MD.T
        found_BN[:, len(items_MD) :] = found_BN[:, 1 : len(items_MD)].mean(axis=1, keepdims=True)
        return found_BN
