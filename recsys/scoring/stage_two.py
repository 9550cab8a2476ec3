"""Stage 2: the first M items of each user's list in a new order, by stage 1's score and the ranking model's.

Stage 1 decides which items these are; given them, what follows is exact: an item's final score is
``(1 - w) * z(stage 1's score) + w * z(logit)``, z over the user's own M items, rounded as stage 1 rounds,
ties to the smaller item number. Behind the M items the list goes on in stage 1's order, however long it is:
a longer list begins with the shorter one.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from recsys.records import Recipe
from recsys.scoring.kernel import DECIMALS
from recsys.scoring.lists import Lists
from recsys.scoring.parts import SMALLEST_SPREAD, Floats
from recsys.scoring.ranker import USERS_PER_CALL
from recsys.scoring.ranking_bundle import RankingBundle
from recsys.scoring.users import UserBatch

# Shape suffixes in this file:
#   B users   M items of each that are ordered anew   P places of the lists, flat
Bools = NDArray[np.bool_]


def rerank(
    lists: Lists, users: UserBatch, bundle: RankingBundle, recipe: Recipe, as_of: date
) -> Lists:
    """The lists of stage 1 with their first ``recipe.rerank`` items in their final order.

    Users of whose newest items the model knows none keep stage 1's list, scores and all. In the others'
    the scores behind the M items go on falling from the last of these as stage 1's fall.

    Raises:
        CorruptArtifact: the model gave NaN or infinity.
    """
    moments = bundle.moments(
        users.user_nums, users.history_offsets, users.history_nums, users.ages_days, as_of
    )
    known = np.flatnonzero((moments.history_BH != 0).any(axis=1) & (lists.lengths > 0))
    scores, order = lists.scores.copy(), np.arange(len(lists.scores))
    # The tower's calls have this many users each, so more at once would only take memory.
    for start in range(0, len(known), USERS_PER_CALL):
        rows = known[start : start + USERS_PER_CALL]
        place_BM = lists.offsets[rows, None] + np.arange(recipe.rerank)
        real_BM = place_BM < lists.offsets[rows + 1, None]
        place_BM = np.where(real_BM, place_BM, 0)
        item_nums_BM = np.where(real_BM, lists.item_nums[place_BM], 0).astype(np.int64)
        logits_BM = bundle.ranker.logits(bundle.inputs(moments.at(rows), item_nums_BM))
        stage_one_BM = lists.scores[place_BM].astype(np.float64)
        final_BM = np.round(
            (1 - recipe.rerank_weight) * z_scores(stage_one_BM, real_BM)
            + recipe.rerank_weight * z_scores(logits_BM.astype(np.float64), real_BM),
            DECIMALS,
        ).astype(np.float32)
        best_BM = np.lexsort((item_nums_BM, -final_BM, ~real_BM))
        order[place_BM[real_BM]] = np.take_along_axis(place_BM, best_BM, axis=1)[real_BM]
        scores[place_BM[real_BM]] = np.take_along_axis(final_BM, best_BM, axis=1)[real_BM]
        _continue_behind(lists, rows, scores, stage_one_BM, real_BM)
    return replace(
        lists, item_nums=lists.item_nums[order], scores=scores, sources=lists.sources[order]
    )


def z_scores(values_BM: Floats, real_BM: Bools) -> Floats:
    """Each user's real values less their mean, over their standard deviation; 0 where they do not differ."""
    count_B1 = np.maximum(real_BM.sum(axis=1, keepdims=True), 1)
    mean_B1 = np.where(real_BM, values_BM, 0).sum(axis=1, keepdims=True) / count_B1
    centred_BM = np.where(real_BM, values_BM - mean_B1, 0)
    spread_B1 = np.sqrt((centred_BM**2).sum(axis=1, keepdims=True) / count_B1)
    size_B1 = np.where(real_BM, np.abs(values_BM), 0).max(axis=1, keepdims=True, initial=0)
    differs_BM = np.broadcast_to(spread_B1 > SMALLEST_SPREAD * size_B1, centred_BM.shape)
    return np.divide(centred_BM, spread_B1, out=np.zeros_like(centred_BM), where=differs_BM)


def _continue_behind(
    lists: Lists,
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    stage_one_BM: Floats,
    real_BM: Bools,
) -> None:
    """Write the scores behind each user's M items, none above the last of these."""
    width = real_BM.shape[1]
    behind_B = np.maximum(lists.lengths[rows] - width, 0)
    if not behind_B.any():
        return
    owner_P = np.repeat(np.arange(len(rows)), behind_B)
    nth_P = np.arange(len(owner_P)) - np.repeat(np.cumsum(behind_B) - behind_B, behind_B)
    last_P = lists.offsets[rows][owner_P] + width - 1
    place_P = last_P + 1 + nth_P
    # In stage 1's units: a user's scores are z-scores and logs of about one, as the final ones are.
    fall_P = lists.scores[place_P].astype(np.float64) - stage_one_BM[owner_P, -1]
    scores[place_P] = np.round(scores[last_P] + fall_P, DECIMALS)
