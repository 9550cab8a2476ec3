"""NDCG@10 over the full catalogue on the choosing window, from histories as of its first day."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.embeddings import Comm
from recsys.errors import ContractError
from recsys.models.sequential import gaps_between
from recsys.training.checkpoint import read_arrays, write_arrays
from recsys.training.pairs import pairs

# Shape suffixes in this file:
#   U users   H places of a history, newest last   T targets, flat over the users   B users in a batch
K = 10
USERS_PER_BATCH = 512


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
    user_num_U: Tensor = torch.zeros(0, dtype=torch.int64)
    """int64, 0 for a user that the vocabulary does not have; empty where no model asks for it."""

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
            self.user_num_U[rank::size],
        )

    def batch(self, number: int) -> ValidationUsers:
        """Users ``number * USERS_PER_BATCH`` on; none past the last."""
        start = number * USERS_PER_BATCH
        nums_BH = self.item_nums_UH[start : start + USERS_PER_BATCH]
        here_T = (self.user_T >= start) & (self.user_T < start + len(nums_BH))
        return ValidationUsers(
            nums_BH,
            self.ages_days_UH[start : start + USERS_PER_BATCH],
            self.user_T[here_T] - start,
            self.target_item_nums_T[here_T],
            self.user_num_U[start : start + USERS_PER_BATCH],
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


UserVectors = Callable[[Tensor, Tensor], Tensor]
"""(B, D) of item_nums (B, H) and gaps (B, H). Collective."""

BestItems = Callable[[Tensor, int], Tensor]
"""Of (B, D): the k best item numbers, (B, k), best first. Collective."""


@torch.no_grad()
def ndcg_of(
    users: ValidationUsers, user_vectors: UserVectors, best: BestItems, comm: Comm, *, k: int = K,
    each_batch: Callable[[], None] = lambda: None,
) -> float:  # fmt: skip
    """Mean NDCG@k of all users, each rank asking about its share; the same on every rank. Collective.

    Binary relevance; the ideal list has min(k, targets) hits, targets outside the vocabulary included:
    they cannot be hit, and leaving them out would flatter the figure. Ties go to the smaller item number.
    """
    mine = users.share(comm.rank, comm.size)
    # Rank 0 has the largest share; a rank that stopped earlier would leave the others waiting.
    num_batches = -(-len(users.share(0, comm.size)) // USERS_PER_BATCH)
    gains = []
    for number in range(num_batches):
        each_batch()
        gains.append(_gains(mine.batch(number), user_vectors, best, k))
    total, num_users = comm.sum([math.fsum(map(math.fsum, gains)), float(len(mine))], "validation")
    return total / num_users if num_users else 0.0


def _gains(
    users: ValidationUsers, user_vectors: UserVectors, best: BestItems, k: int
) -> list[float]:
    """NDCG@k by user."""
    discount_k = 1.0 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))
    nums_BH, ages_BH = users.item_nums_UH, users.ages_days_UH
    gaps_BH = gaps_between(ages_BH, (nums_BH != 0).float())
    best_Bk = best(user_vectors(nums_BH, gaps_BH), k)
    known_T = users.target_item_nums_T > 0
    wanted = pairs(users.user_T[known_T], users.target_item_nums_T[known_T])
    row_B1 = torch.arange(len(users)).unsqueeze(1)
    hits_Bk = torch.isin(pairs(row_B1, best_Bk), wanted)
    found_B = (hits_Bk * discount_k[: hits_Bk.shape[1]]).sum(dim=1)
    num_targets_B = torch.bincount(users.user_T, minlength=len(users)).clamp(min=1, max=k)
    ideal_B = torch.cumsum(discount_k, 0)[num_targets_B - 1]
    return (found_B / ideal_B).tolist()


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
