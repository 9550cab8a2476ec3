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

from recsys.errors import ContractError
from recsys.models import SequentialEncoder, SequentialModel
from recsys.training import validation
from recsys.training.validation import (
    ValidationUsers,
    left_padded,
    ndcg_sums,
    read_users,
    top_k,
    write_users,
)
from tests.training.worlds import cyclic_histories, validation_users

NUM_ITEMS, LENGTH = 40, 5


class Fixed(SequentialModel):
    """A model whose scores are given: user u's vector is the row of scores, item vectors are the axes."""

    def __init__(self, scores_UI: torch.Tensor) -> None:
        encoder = SequentialEncoder(
            embedding_dim=8, history_length=LENGTH, num_blocks=1, num_heads=1, dropout=0.0
        )
        super().__init__(num_items=NUM_ITEMS, embedding_dim=NUM_ITEMS + 1, encoder=encoder)
        self.items.weight = torch.nn.Parameter(torch.eye(NUM_ITEMS + 1))
        self.scores_UI = scores_UI

    def user_vectors(self, item_nums_BH: torch.Tensor, gaps_BH: torch.Tensor) -> torch.Tensor:
        return self.scores_UI[item_nums_BH[:, -1] - 1]  # the newest item number names the user


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
    model = Fixed(torch.tensor(scores))
    parts = [ndcg_sums(model, users_of(targets).share(rank, size)) for rank in range(size)]
    expected = sum(reference_ndcg(s, t, 10) for s, t in zip(scores, targets, strict=True))
    assert sum(users for _, users in parts) == num_users
    assert sum(total for total, _ in parts) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_large_catalogue_is_scored_for_few_users_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(5)
    scores = torch.from_numpy(random.integers(0, 4, (7, NUM_ITEMS + 1)).astype(np.float32))
    users = users_of([set(random.integers(1, NUM_ITEMS + 1, 3).tolist()) for _ in range(7)])
    whole = ndcg_sums(Fixed(scores), users)
    cells = []

    def watched(scores: torch.Tensor, k: int) -> torch.Tensor:
        cells.append(scores.numel())
        return top_k(scores, k)

    monkeypatch.setattr(validation, "top_k", watched)
    monkeypatch.setattr(validation, "CELLS", 3 * (NUM_ITEMS + 1) - 1)
    assert ndcg_sums(Fixed(scores), users) == pytest.approx(whole)
    assert max(cells) == 2 * (NUM_ITEMS + 1)
    monkeypatch.setattr(validation, "CELLS", 1)
    assert ndcg_sums(Fixed(scores), users) == pytest.approx(whole), "one user at least"


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
