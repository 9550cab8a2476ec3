"""Scores from a Parquet: what is wrong with a file is said by row and key, what is right becomes lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from structlog.testing import capture_logs

from recsys.errors import ContractError, MissingInput
from recsys.recommenders import Shop, Users
from recsys.recommenders.scored_pairs import ScoredPairs, read_pairs
from tests.recommenders.worlds import histories

USERS = pa.array(["ana", "bob", "cem"])
ITEMS = pa.array(["", "tea", "cup"])


def file_of(folder: Path, **columns: Any) -> Path:
    sound = {"user_id": ["ana", "bob"], "item_id": ["tea", "cup"], "score": [0.5, 0.25]}
    found = {name: values for name, values in {**sound, **columns}.items() if values is not None}
    pq.write_table(pa.table(found), folder / "scores.parquet")
    return folder / "scores.parquet"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"score": None}, "no column score; it has user_id, item_id"),
        ({"user_id": ["ana", None]}, "user_id is null in 1 of 2 rows, the first of them row 2"),
        ({"score": [None, 1.0]}, "score is null in 1 of 2 rows, the first of them row 1"),
        ({"score": [1.0, float("nan")]}, "score is no finite float32 in 1 of 2 rows.*row 2"),
        ({"score": [1e300, 1.0]}, "score is no finite float32 in 1 of 2 rows.*row 1"),
        ({"score": ["high", "low"]}, "score is string, wanted is a number"),
        ({"item_id": [0.5, 1.5]}, "item_id is double, wanted is text"),
        (
            {"user_id": ["ana", "ana"], "item_id": ["tea", "tea"]},
            r"1 pairs .* several scores \(user ana, item tea: 2 times\)",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, columns: Any, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        read_pairs(file_of(tmp_path, **columns))


def test_a_file_that_is_not_there_and_one_that_is_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"no file .*nowhere\.parquet"):
        read_pairs(tmp_path / "nowhere.parquet")
    (tmp_path / "text.parquet").write_text("user_id,item_id,score")
    with pytest.raises(ContractError, match="cannot be read as Parquet"):
        read_pairs(tmp_path / "text.parquet")


def test_numbers_and_categories_are_ids_as_text(tmp_path: Path) -> None:
    items = pa.array(["tea", "cup"]).dictionary_encode()
    pairs = read_pairs(file_of(tmp_path, user_id=[13085, 7], item_id=items, score=[1, 2]))
    assert pairs.to_pylist()[0] == {"user_id": "13085", "item_id": "tea", "score": 1.0}


def test_pairs_become_scores_and_what_the_shop_does_not_know_is_counted(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        user_id=["ana", "ana", "cem", "dan", "cem"],  # nobody knows dan
        item_id=["tea", "cup", "cup", "tea", "pot"],  # nor the pot
        score=[-1.0, 0.0, 3.0, 1.0, 1.0],
    )
    with capture_logs() as lines:
        pairs = ScoredPairs.of(read_pairs(path), USERS, ITEMS)
    assert {key: lines[0][key] for key in ("of_unknown_users", "of_unknown_items", "left_out")} == {
        "of_unknown_users": 1, "of_unknown_items": 1, "left_out": 2,
    }  # fmt: skip

    asked = Users(histories([[1], [], []]), np.array([3, 1, 2]))
    scores = pairs.fit(Shop(2, histories([[], [], []]))).scores(asked)

    none = -np.inf  # a score of 0 is a score
    assert scores.tolist() == [[none, none, 3.0], [none, -1.0, 0.0], [none, none, none]]


def test_a_file_of_another_shop_is_refused(tmp_path: Path) -> None:
    pairs = read_pairs(file_of(tmp_path, user_id=["x", "y"]))
    with pytest.raises(MissingInput, match=r"none of 2 scored pairs.*users .*\['ana', 'bob'"):
        ScoredPairs.of(pairs, USERS, ITEMS)
