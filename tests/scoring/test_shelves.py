"""Shelves from the kit: the best allowed neighbours of each item, and what sells by segment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array
from structlog.testing import capture_logs

from recsys.config.sections import ScoringConfig
from recsys.scoring.scorer import Rules
from recsys.scoring.shelves import also_bought, popular_items, similar_items, write_shelves
from tests.scoring.worlds import AS_OF, kit_of

if TYPE_CHECKING:
    from recsys.contracts import TableContract
    from recsys.lake import Lake


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


def test_what_is_taken_up_after_an_item_stands_beside_it_by_transitions_alone() -> None:
    kit = kit_of(4, buyers=[[1, 2, 3, 4]], hidden=[4])
    steps, alike = np.zeros((5, 5)), np.zeros((5, 5))
    steps[1, [2, 3, 4]] = 0.5, 0.5, 0.9  # the best of them is hidden, the others tie
    steps[2, [1, 3]] = 0.1, 0.7
    steps[4, 1] = 0.3  # what is hidden has a list all the same; gamma leads to nothing
    alike[3, 1] = alike[1, 3] = 9.0  # what goes with an item is no reason, nor is what sells
    kit = replace(
        kit, transitions=csr_array(steps), similarity=csr_array(alike),
        item_ids=pa.array(["", "zeta", "beta", "gamma", "alpha"]),
    )  # fmt: skip

    rows = also_bought(kit, n=2).to_pylist()

    assert [(r["item_id"], r["rank"], r["next_item_id"], round(r["score"], 5)) for r in rows] == [
        ("alpha", 1, "zeta", 2.77259),  # log1p(50 * 0.3), as in every list
        ("beta", 1, "gamma", 3.58352),
        ("beta", 2, "zeta", 1.79176),
        ("zeta", 1, "beta", 3.2581),
        ("zeta", 2, "gamma", 3.2581),
    ]
    assert also_bought(kit, n=1).column("next_item_id").to_pylist() == ["zeta", "gamma", "beta"]


def test_both_lists_beside_an_item_are_those_of_one_who_has_it_alone() -> None:
    """similar_items reads the rows of its matrix, also_bought asks the scorer: of one matrix they say the same."""
    draw = np.random.default_rng(3)
    pairs = [
        (one, other, float(draw.integers(1, 9)) / 10)  # many ties
        for one in range(1, 31)
        for other in range(1, 31)
        if one != other and draw.random() < 0.4
    ]
    kit = kit_of(30, similarity=pairs, transitions=pairs, buyers=[range(30)], hidden=[3, 17])

    similar, after = similar_items(kit, n=6).to_pylist(), also_bought(kit, n=6).to_pylist()

    assert len(after) > 100
    assert [(r["item_id"], r["rank"], r["next_item_id"]) for r in after] == [
        (r["item_id"], r["rank"], r["similar_item_id"]) for r in similar
    ]


def test_without_transitions_nothing_is_also_bought_and_the_log_says_so() -> None:
    written: dict[str, int] = {}

    class Tables:
        def replace_by_arrow(self, rows: pa.Table, contract: TableContract, _: Any) -> None:
            written[contract.name] = rows.num_rows

    kit = kit_of(2, similarity=[(1, 2, 0.5)], buyers=[[2, 1]])
    with capture_logs() as logs:
        write_shelves(cast("Lake", Tables()), kit, Rules(), ScoringConfig(), AS_OF)

    assert written == {"similar_items": 1, "also_bought": 0, "popular_items": 2}
    [said] = logs
    assert (said["event"], said["transitions"]) == ("also_bought_is_empty", 0)
    assert said["reason"] == f"no transition to an item that is allowed as of {AS_OF}"


def test_what_nobody_bought_is_on_no_shelf_of_popular_items() -> None:
    kit = kit_of(3, buyers=[[5, 0, 9], [0, 2, 0]], hidden=[])

    rows = popular_items(kit, Rules(exclude_seen=False), n=3).to_pylist()

    whole = [(r["rank"], r["score"]) for r in rows if r["segment"] == ""]
    assert [rank for rank, _ in whole] == [1, 2]
    assert whole[0][1] > whole[1][1] > 0
    assert rows == sorted(rows, key=lambda r: (r["segment"], r["rank"]))
