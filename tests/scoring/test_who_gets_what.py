"""Where a list's items come from: for known users the blend, for thin ones item-item scores, for new ones the shop."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys.records import Recipe
from recsys.scoring.lists import SOURCES
from recsys.scoring.scorer import Entry, Rules, Scorer
from tests.scoring.test_stage_one import DIM, with_model
from tests.scoring.worlds import kit_of, users_of

BLEND = Recipe(name="blend", model=0.5, similarity=0.4, transitions=0.6, popularity=0.2, decay=0.9)
"""Weighs every part. A night's weights are those that evaluate found best: thin users may then get what is popular."""
TASTES = [[0] * DIM, *[[1, 0, 0, 0]] * 4, *[[0, 1, 0, 0]] * 4, *[[1, 0, 0, 0]] * 4]
"""Items 1 to 4 and 9 to 12 please the same users, 5 to 8 others."""


def test_thin_users_get_what_goes_with_their_items_and_new_ones_what_is_popular(
    tmp_path: Path,
) -> None:
    similar = [(5, 6, 0.5), (5, 7, 0.4), (5, 8, 0.3), (6, 10, 0.4), (1, 2, 0.5)]
    kit = kit_of(
        12, similarity=similar, transitions=[(6, 8, 0.3), (6, 11, 0.2)],
        buyers=[[9, 8, 7, 6, 5, 4, 3, 2, 1, 1, 1, 1]],
    )  # fmt: skip
    histories = [
        [1, 2, 3, 4],  # known: the model has more for them than their items' neighbours
        [5],  # one event
        [5, 6],  # two
        [],  # new
    ]
    users = users_of(histories, seen=histories)

    lists = Scorer(with_model(kit, np.array(TASTES), tmp_path), Rules(exclude_seen=True)).lists(
        users, Entry(BLEND, "hand-made"), 4
    )

    sources = [[SOURCES[s] for s in part] for part in np.split(lists.sources, lists.offsets[1:-1])]
    known, one, two, new = sources
    assert known == ["model"] * 4
    assert one[:3] == ["similar"] * 3
    assert two == ["similar"] * 4
    assert new == ["popular"] * 4
