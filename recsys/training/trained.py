"""A night's sequential model, opened from its folder to be asked for vectors. Arrays of numpy go in and come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.models.sequential import gaps_between
from recsys.training.histories_files import FlatHistories
from recsys.training.model_folder import load_model

# Shape suffixes in this file:
#   U users   B users of a call   H places of a history, newest last   N catalogue (num_items + 1)   D embedding width
Floats = NDArray[np.float32]

USERS_PER_CALL = 256
"""Every call has so many, the last one padded: a user's vector does not depend on who else is asked about."""


class TrainedModel:
    """Its weights were checked against its manifest."""

    def __init__(self, folder: Path) -> None:
        """Raises: as ``model_folder.load_model``."""
        self._model, self.manifest = load_model(folder)

    @property
    def item_vectors(self) -> Floats:
        """(N, D), row 0 zeros: a score is a user's vector times an item's."""
        return self._model.items.weight.detach().numpy()

    @torch.no_grad()
    def user_vectors(self, histories: FlatHistories) -> Floats:
        """(U, D), zeros for a user without events."""
        nums_UH, ages_UH = histories.newest(self.manifest.history_length)
        found_UD = np.zeros((len(histories), self.manifest.embedding_dim), dtype=np.float32)
        nums_BH = torch.zeros((USERS_PER_CALL, nums_UH.shape[1]), dtype=torch.int64)
        ages_BH = torch.zeros(nums_BH.shape)
        for start in range(0, len(histories), USERS_PER_CALL):
            stop = min(start + USERS_PER_CALL, len(histories))
            nums_BH[: stop - start] = torch.from_numpy(nums_UH[start:stop])
            ages_BH[: stop - start] = torch.from_numpy(ages_UH[start:stop])
            gaps_BH = gaps_between(ages_BH, (nums_BH != 0).float())
            found_UD[start:stop] = self._model.user_vectors(nums_BH, gaps_BH)[: stop - start]
        return found_UD
