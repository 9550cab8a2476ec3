"""NDCG@10 against the formula, user by user."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.embeddings import Comm
from recsys.errors import ContractError
from recsys.training import validation
from recsys.training.validation import (
    BestItems,
    UserVectors,
    ValidationUsers,
    left_padded,
    ndcg_of,
    read_users,
    top_k,
    write_users,
)
from tests.embeddings.rank_threads import run_ranks
from tests.training.worlds import cyclic_histories, validation_users

NUM_ITEMS, LENGTH = 40, 5


def given_scores(scores_UI: torch.Tensor) -> tuple[UserVectors, BestItems]:
    """A model whose scores are given: user u's vector is the row of scores; item 0 is padding."""

    def user_vectors(item_nums_BH: torch.Tensor, gaps_BH: torch.Tensor) -> torch.Tensor:
        return scores_UI[item_nums_BH[:, -1] - 1]  # the newest item number names the user

    def best(users_BI: torch.Tensor, k: int) -> torch.Tensor:
        return 1 + top_k(users_BI[:, 1:], k)

    return user_vectors, best


def reference_ndcg(scores: list[float], targets: set[int], k: int) -> float:
    """One user, in plain Python; ``scores[0]`` is padding, target 0 is an item that is not known."""
    ranked = sorted(range(1, len(scores)), key=lambda item: (-scores[item], item))[:k]
    found = sum(1 / math.log2(rank + 2) for rank, item in enumerate(ranked) if item in targets)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(targets))))
    return found / ideal


def users_of(targets: list[set[int]]) -> ValidationUsers:
    nums = torch.zeros((len(targets), LENGTH), dtype=torch.int64)
    nums[:, -1] = torch.arange(1, len(targets) + 1)
    return ValidationUsers(
        nums,
        (nums != 0).float(),
        torch.tensor([user for user, items in enumerate(targets) for _ in items]),
        torch.tensor([item for items in targets for item in sorted(items)]),
    )


@given(data=st.data(), num_users=st.integers(1, 6), size=st.integers(1, 3))
def test_agrees_with_the_formula_on_any_number_of_ranks(
    data: st.DataObject, num_users: int, size: int
) -> None:
    # Few distinct scores: most ranks are decided by ties.
    row = st.lists(st.integers(0, 4), min_size=NUM_ITEMS + 1, max_size=NUM_ITEMS + 1)
    scores = [[float(score) for score in data.draw(row)] for _ in range(num_users)]
    targets = [data.draw(st.sets(st.integers(0, NUM_ITEMS), min_size=1)) for _ in range(num_users)]
    users, model = users_of(targets), given_scores(torch.tensor(scores))
    found = run_ranks(size, lambda comm: ndcg_of(users, *model, comm))
    expected = sum(reference_ndcg(s, t, 10) for s, t in zip(scores, targets, strict=True))
    assert found == [pytest.approx(expected / num_users, rel=1e-9, abs=1e-12)] * size


def test_every_rank_asks_as_often_as_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask is collective: five users on two ranks are batches of two and one, and of two and none."""
    monkeypatch.setattr(validation, "USERS_PER_BATCH", 2)
    random = np.random.default_rng(5)
    scores = torch.from_numpy(random.integers(0, 4, (5, NUM_ITEMS + 1)).astype(np.float32))
    users = users_of([set(random.integers(1, NUM_ITEMS + 1, 3).tolist()) for _ in range(5)])
    user_vectors, best = given_scores(scores)
    asked: list[tuple[int, int]] = []

    def of_rank(comm: Comm) -> float:
        def counting(users_BI: torch.Tensor, k: int) -> torch.Tensor:
            asked.append((comm.rank, len(users_BI)))
            return best(users_BI, k)

        return ndcg_of(users, user_vectors, counting, comm)

    assert len(set(run_ranks(2, of_rank))) == 1
    assert sorted(asked) == [(0, 1), (0, 2), (1, 0), (1, 2)]


def test_the_top_is_found_without_an_order_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sort, widths = torch.sort, []

    def watched(values: torch.Tensor, **how: Any) -> Any:
        widths.append(values.shape[1])
        return sort(values, **how)

    monkeypatch.setattr(torch, "sort", watched)
    assert top_k(torch.zeros(2, 1000), 3).tolist() == [[0, 1, 2]] * 2  # all scores tie
    assert max(widths, default=0) <= 3


def test_what_is_no_number_comes_last() -> None:
    nan, inf = math.nan, math.inf
    scores = torch.tensor([[nan, 1.0, -inf, 2.0, inf], [nan] * 5])
    assert top_k(scores, 3).tolist() == [[4, 3, 1], [0, 1, 2]]


@given(
    rows=st.lists(st.lists(st.integers(0, 3), min_size=12, max_size=12), min_size=1, max_size=4),
    k=st.integers(1, 15),
)
def test_top_k_gives_ties_to_the_smaller_number(rows: list[list[int]], k: int) -> None:
    expected = [sorted(range(12), key=lambda i: (-row[i], i))[:k] for row in rows]
    assert top_k(torch.tensor(rows, dtype=torch.float32), k).tolist() == expected


def test_histories_keep_their_newest_and_are_padded_on_the_left() -> None:
    assert left_padded([[1, 2, 3, 4], [9], []], 3, np.int64).tolist() == [
        [2, 3, 4],
        [0, 0, 9],
        [0, 0, 0],
    ]


def test_users_come_back_and_another_length_is_refused(tmp_path: Path) -> None:
    users = validation_users(cyclic_histories(4))
    write_users(tmp_path / "users.npz", users)
    back = read_users(tmp_path / "users.npz", history_length=users.item_nums_UH.shape[1])
    assert all(torch.equal(a, b) for a, b in zip(back, users, strict=True))
    with pytest.raises(ContractError, match=r"users\.npz have 11 places, the model takes 20"):
        read_users(tmp_path / "users.npz", history_length=20)
