"""Shelves from the kit: the best allowed neighbours of each item, and what sells by segment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from recsys.scoring.scorer import Rules
from recsys.scoring.shelves import popular_items, similar_items
from tests.scoring.worlds import kit_of


def test_the_best_allowed_neighbours_stand_beside_an_item_ties_to_the_smaller_number() -> None:
    kit = kit_of(4, buyers=[[4, 3, 2, 1]], hidden=[4])
    scores = np.zeros((5, 5))
    scores[1, [2, 3, 4]] = 0.5, 0.5, 0.9  # the best of them is hidden
    scores[2, [1, 3]] = 0.1, 0.7
    scores[4, 1] = 0.3  # what is hidden has a shelf all the same
    # External ids in another order than the numbers: rows come in the order of the ids.
    kit = replace(
        kit, similarity=csr_array(scores), item_ids=pa.array(["", "zeta", "beta", "gamma", "alpha"])
    )

    rows = similar_items(kit, n=2).to_pylist()

    assert [(r["item_id"], r["rank"], r["similar_item_id"], r["score"]) for r in rows] == [
        ("alpha", 1, "zeta", 0.3),
        ("beta", 1, "gamma", 0.7),
        ("beta", 2, "zeta", 0.1),
        ("zeta", 1, "beta", 0.5),
        ("zeta", 2, "gamma", 0.5),
    ]
    assert similar_items(kit, n=1).column("similar_item_id").to_pylist() == [
        "zeta",
        "gamma",
        "beta",
    ]


def test_what_nobody_bought_is_on_no_shelf_of_popular_items() -> None:
    kit = kit_of(3, buyers=[[5, 0, 9], [0, 2, 0]], hidden=[])

    rows = popular_items(kit, Rules(exclude_seen=False), n=3).to_pylist()

    whole = [(r["rank"], r["score"]) for r in rows if r["segment"] == ""]
    assert [rank for rank, _ in whole] == [1, 2]
    assert whole[0][1] > whole[1][1] > 0
    assert rows == sorted(rows, key=lambda r: (r["segment"], r["rank"]))
