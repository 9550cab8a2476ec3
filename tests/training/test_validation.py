"""NDCG@10 against the formula, user by user."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ContractError
from recsys.models import SequentialEncoder, SequentialModel
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
