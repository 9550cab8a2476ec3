"""NDCG@10 over the full catalogue on the choosing window, from histories as of its first day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.errors import ContractError
from recsys.models import SequentialModel, gaps_between
from recsys.training.checkpoint import read_arrays, write_arrays

# Shape suffixes in this file:
#   U users   H places of a history, newest last   T targets, flat over the users   B users in a batch
K = 10
USERS_PER_BATCH = 512
CELLS = 4_000_000
"""Users x items scored at once: with a million items, four users and 16 MB of scores."""


class ValidationUsers(NamedTuple):
    """Users with something to be predicted."""

    item_nums_UH: Tensor
    """int64, left-padded with 0."""
    ages_days_UH: Tensor
    """float32."""
    user_T: Tensor
    """int64: whose target this is, ascending."""
    target_item_nums_T: Tensor
    """int64, distinct per user; 0 for an item that the vocabulary does not have yet."""

    def __len__(self) -> int:  # the users, not the fields
        return self.item_nums_UH.shape[0]

    def share(self, rank: int, size: int) -> ValidationUsers:
        """Every ``size``-th user from ``rank`` on."""
        mine_T = self.user_T % size == rank
        return ValidationUsers(
            self.item_nums_UH[rank::size],
            self.ages_days_UH[rank::size],
            torch.div(self.user_T[mine_T], size, rounding_mode="floor"),
            self.target_item_nums_T[mine_T],
        )


def left_padded(
    histories: Sequence[Sequence[float]], length: int, dtype: type[np.generic]
) -> NDArray[Any]:
    """The newest ``length`` values of each history, newest last, zeros before them."""
    padded = np.zeros((len(histories), length), dtype=dtype)
    for row, values in enumerate(histories):
        newest = np.asarray(values, dtype=dtype)[-length:]
        padded[row, length - len(newest) :] = newest
    return padded


def write_users(path: Path, users: ValidationUsers) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, {name: value.numpy() for name, value in users._asdict().items()})


def read_users(path: Path, *, history_length: int) -> ValidationUsers:
    """Raises ContractError where the histories have another length than the model takes."""
    users = ValidationUsers(**{name: torch.from_numpy(a) for name, a in read_arrays(path).items()})
    if users.item_nums_UH.shape[1] != history_length:
        raise ContractError(
            f"validation users in {path} have {users.item_nums_UH.shape[1]} places, the model takes "
            f"{history_length}: run train again"
        )
    return users


@torch.no_grad()
def ndcg_sums(model: SequentialModel, users: ValidationUsers, *, k: int = K) -> tuple[float, int]:
    """Sum over users of NDCG@k, and how many users.

    Binary relevance; the ideal list has min(k, targets) hits, targets outside the vocabulary included:
    they cannot be hit, and leaving them out would flatter the figure. Ties go to the smaller item number.
    """
    discount_k = 1.0 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))
    total = 0.0
    items = model.items.weight
    batch_users = max(1, min(USERS_PER_BATCH, CELLS // len(items)))
    for start in range(0, len(users), batch_users):
        nums_BH = users.item_nums_UH[start : start + batch_users]
        ages_BH = users.ages_days_UH[start : start + batch_users]
        here_T = (users.user_T >= start) & (users.user_T < start + len(nums_BH))
        user_T, target_T = users.user_T[here_T] - start, users.target_item_nums_T[here_T]
        gaps_BH = gaps_between(ages_BH, (nums_BH != 0).float())
        scores = model.user_vectors(nums_BH, gaps_BH) @ items.T
        scores[:, 0] = float("-inf")
        wanted = torch.zeros(scores.shape, dtype=torch.bool)
        wanted[user_T, target_T] = True
        wanted[:, 0] = False
        hits_Bk = torch.gather(wanted, 1, top_k(scores, k))
        found_B = (hits_Bk * discount_k[: hits_Bk.shape[1]]).sum(dim=1)
        num_targets_B = torch.bincount(user_T, minlength=len(nums_BH)).clamp(min=1, max=k)
        ideal_B = torch.cumsum(discount_k, 0)[num_targets_B - 1]
        total += float((found_B / ideal_B).sum())
    return total, len(users)


def top_k(scores: Tensor, k: int) -> Tensor:
    """Columns of the k best scores, best first, equal scores by the smaller column; NaN is the worst."""
    scores = scores.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    k = min(k, scores.shape[1])
    smallest = torch.topk(scores, k, dim=1).values[:, -1:]
    better, equal = scores > smallest, scores == smallest
    # topk takes any of equal scores; here the first of them take the places that the better ones leave.
    places = k - better.sum(dim=1, keepdim=True)
    kept = better | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= places))
    columns = kept.nonzero()[:, 1].view(len(scores), k)
    order = torch.sort(scores.gather(1, columns), dim=1, descending=True, stable=True).indices
    return columns.gather(1, order)
