"""Real users' histories as padded arrays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F

from recsys.contracts import HISTORIES
from recsys.errors import MissingInput
from recsys.lake import Lake
from recsys.training.validation import left_padded


@dataclass(frozen=True)
class UserHistories:
    """The newest H events of U users."""

    user_ids: tuple[str, ...]
    item_nums_UH: NDArray[np.int32]
    """(U, H), left-padded with 0."""
    ages_days_UH: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.user_ids)

    def slice(self, start: int, end: int) -> UserHistories:
        return UserHistories(
            self.user_ids[start:end], self.item_nums_UH[start:end], self.ages_days_UH[start:end]
        )


def read_histories(
    lake: Lake, *, as_of: date, history_length: int, count: int, seed: int = 17
) -> UserHistories:
    """``count`` users chosen by hash, or all where there are fewer.

    Raises:
        MissingInput: no histories of that day.
    """
    rows = (
        lake.read(HISTORIES, as_of=as_of)
        .select("user_id", "item_nums", "ages_days")
        .orderBy(F.xxhash64("user_id", F.lit(seed)), "user_id")
        .limit(count)
        .collect()
    )
    if not rows:
        raise MissingInput(f"no histories of {as_of}: run build_features first")
    return UserHistories(
        tuple(row["user_id"] for row in rows),
        left_padded([row["item_nums"] for row in rows], history_length, np.int32),
        left_padded([row["ages_days"] for row in rows], history_length, np.float32),
    )
