"""Sampled softmax with negatives shared by the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Shape suffixes in this file:
#   Q query places   P predictions made there   S shared negatives   D embedding width


def sampled_softmax_loss(
    users_QD: Tensor,
    items: Tensor,
    query_of_P: Tensor,
    item_nums_P: Tensor,
    negatives_S: Tensor,
    *,
    weights_P: Tensor | None = None,
) -> Tensor:
    """Mean negative log-probability of the predicted items among themselves and the shared negatives.

    The negatives are uniform over the catalogue, so the correction log(1/q) is one constant: the sum
    over S negatives is scaled by num_items / S and estimates the sum over the whole catalogue. A
    negative that is one of the same place's positives does not count against it. The logits of a
    place are computed once, however many items are predicted from it. No predictions: loss 0.

    Args:
        users_QD: float32.
        items: (num_items + 1, D) float32, the item table; row 0 is padding.
        query_of_P: int64, 0 <= . < Q.
        item_nums_P: int64, 1 <= . <= num_items.
        negatives_S: int64, distinct, 1 <= . <= num_items.
        weights_P: float32 >= 0, of each prediction in the mean; all equal by default.
    """
    if len(item_nums_P) == 0:
        return users_QD.sum() * 0.0 + items.sum() * 0.0
    num_items, num_negatives = items.shape[0] - 1, len(negatives_S)
    positive_P = (users_QD[query_of_P] * items[item_nums_P]).sum(dim=1)
    logits_QS = users_QD @ items[negatives_S].T
    column = torch.full((num_items + 1,), -1, dtype=torch.int64, device=items.device)
    column[negatives_S] = torch.arange(num_negatives, device=items.device)
    hit_P = column[item_nums_P]
    is_hit_P = hit_P >= 0
    own = torch.zeros_like(logits_QS, dtype=torch.bool)
    own[query_of_P[is_hit_P], hit_P[is_hit_P]] = True
    logits_QS = logits_QS.masked_fill(own, float("-inf"))
    negative_Q = torch.logsumexp(logits_QS, dim=1) + math.log(num_items / num_negatives)
    loss_P = torch.logaddexp(positive_P, negative_Q[query_of_P]) - positive_P
    if weights_P is None:
        return loss_P.mean()
    return (loss_P * weights_P).sum() / weights_P.sum()
