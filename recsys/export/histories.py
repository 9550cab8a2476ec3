"""Real users' histories: as padded arrays, and flat with the users' numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F

from recsys.contracts import HISTORIES
from recsys.errors import MissingInput
from recsys.lake import Lake
from recsys.lake.as_of import numbers
from recsys.scoring.users import flat_lists
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


@dataclass(frozen=True)
class RankingUsers:
    """Users as the ranking model knows them; histories are flat, oldest first."""

    as_of: date
    user_nums: NDArray[np.int64]
    history_offsets: NDArray[np.int64]
    history_nums: NDArray[np.int32]
    ages_days: NDArray[np.float32]


def read_ranking_users(lake: Lake, *, as_of: date, count: int, seed: int = 17) -> RankingUsers:
    """The users of ``read_histories``, with their numbers in the vocabulary.

    Raises:
        MissingInput: no histories of that day.
    """
    chosen = (
        lake.read(HISTORIES, as_of=as_of)
        .orderBy(F.xxhash64("user_id", F.lit(seed)), "user_id")
        .limit(count)
        .join(numbers(lake.vocabulary(as_of), "user"), "user_id", "left")
        .select("user_num", "item_nums", "ages_days")
        .toArrow()
        .combine_chunks()
    )
    if not chosen.num_rows:
        raise MissingInput(f"no histories of {as_of}: run build_features first")
    [rows] = chosen.to_batches()
    offsets, item_nums = flat_lists(rows.column("item_nums"))
    _, ages_days = flat_lists(rows.column("ages_days"))
    user_nums = rows.column("user_num").fill_null(0)
    return RankingUsers(
        as_of,
        user_nums.to_numpy(zero_copy_only=False).astype(np.int64),
        offsets,
        item_nums.to_numpy(zero_copy_only=False).astype(np.int32),
        ages_days.to_numpy(zero_copy_only=False).astype(np.float32),
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
