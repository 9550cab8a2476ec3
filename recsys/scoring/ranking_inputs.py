"""What the ranking model is fed in scoring: vectors gathered from memory-mapped tables. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.models.ranking_fields import (
    CANDIDATE_FIELDS,
    HISTORY,
    USER_FIELDS,
    Attributes,
    Moments,
    candidate_numbers,
    candidate_rows,
    user_rows,
)

# Shape suffixes in this file:
#   B users   H newest items of a history   M candidates of each   U user fields   C candidate fields
#   D embedding width
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class RankingInputs(NamedTuple):
    """The arrays that the exported tower takes, in its order."""

    user_vectors_BUD: Floats
    candidate_vectors_BMCD: Floats
    candidate_numbers_BM1: Floats


def ranking_inputs(
    tables: Mapping[str, Floats],
    attributes: Attributes,
    moments: Moments,
    item_nums_BM: Ints,
    *,
    history_bag: int,
    cross_rows: int,
) -> RankingInputs:
    """Gather the rows of ``tables`` (by field, (rows, D)) that B users and their M candidates ask for.

    Candidates have numbers of today's vocabulary: one that is newer than the model is unknown to it. Candidate 0 is
    a place that is not filled; its logit means nothing.
    """
    items_BM = attributes.known_items(item_nums_BM)
    of_users = user_rows(moments, history_bag=history_bag)
    of_candidates = candidate_rows(attributes, moments, items_BM, cross_rows=cross_rows)
    users = [
        _mean_rows(tables[name], of_users[name])
        if name == HISTORY
        else tables[name][of_users[name]]
        for name in USER_FIELDS
    ]
    candidates = [tables[name][of_candidates[name]] for name in CANDIDATE_FIELDS]
    return RankingInputs(
        np.stack(users, axis=1),
        np.stack(candidates, axis=2),
        candidate_numbers(attributes, items_BM),
    )


def newest_places(
    history_offsets: Ints, history_nums: NDArray[np.int32], ages_days: Floats, length: int
) -> tuple[Ints, Floats]:
    """Of flat histories, oldest first: the newest ``length`` items and their ages, (B, H); 0 before the first."""
    ends_B1, starts_B1 = history_offsets[1:, None], history_offsets[:-1, None]
    place_BH = ends_B1 + np.arange(-length, 0)
    real_BH = place_BH >= starts_B1
    if not len(history_nums):
        return np.zeros(place_BH.shape, np.int64), np.zeros(place_BH.shape, np.float32)
    place_BH = np.where(real_BH, place_BH, 0)
    history_BH = np.where(real_BH, history_nums[place_BH], 0).astype(np.int64)
    ages_BH = np.where(real_BH, ages_days[place_BH], 0).astype(np.float32)
    return history_BH, ages_BH


def _mean_rows(table: Floats, rows_BH: Ints) -> Floats:
    """The mean of each user's rows, row 0 not counted; zeros where there are no others."""
    number_B1 = np.maximum((rows_BH != 0).sum(axis=1, keepdims=True), 1)
    mean_BD: Floats = (table[rows_BH].sum(axis=1) / number_B1).astype(np.float32)
    return mean_BD
