"""Sampled softmax with negatives shared by the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Shape suffixes in this file:
#   Q query places   P predictions made there   S shared negatives   D embedding width


def sampled_softmax_loss(
    users_QD: Tensor,
    positives_PD: Tensor,
    negatives_SD: Tensor,
    *,
    query_of_P: Tensor,
    item_nums_P: Tensor,
    negatives_S: Tensor,
    num_items: int,
    weights_P: Tensor | None = None,
) -> Tensor:
    """Mean negative log-probability of the predicted items among themselves and the shared negatives.

    The negatives are uniform over the catalogue, so the correction log(1/q) is one constant: the sum
    over S negatives is scaled by num_items / S and estimates the sum over the whole catalogue. A
    negative that is one of the same place's positives does not count against it. The logits of a
    place are computed once, however many items are predicted from it. No predictions: loss 0.

    Args:
        users_QD: float32.
        positives_PD: float32, the vectors of the predicted items.
        negatives_SD: float32, those of the negatives.
        query_of_P: int64, 0 <= . < Q.
        item_nums_P: int64, 1 <= . <= num_items.
        negatives_S: int64, distinct, 1 <= . <= num_items.
        num_items: size of the catalogue that the negatives stand for.
        weights_P: float32 >= 0, of each prediction in the mean; all equal by default.
    """
    if len(item_nums_P) == 0:
        return users_QD.sum() * 0.0 + positives_PD.sum() * 0.0 + negatives_SD.sum() * 0.0
    positive_P = (users_QD[query_of_P] * positives_PD).sum(dim=1)
    logits_QS = users_QD @ negatives_SD.T
    ordered_S, order_S = negatives_S.sort()
    place_P = torch.searchsorted(ordered_S, item_nums_P).clamp(max=len(negatives_S) - 1)
    is_hit_P = ordered_S[place_P] == item_nums_P
    own = torch.zeros_like(logits_QS, dtype=torch.bool)
    own[query_of_P[is_hit_P], order_S[place_P[is_hit_P]]] = True
    logits_QS = logits_QS.masked_fill(own, float("-inf"))
    scale = math.log(num_items / len(negatives_S))
    negative_Q = torch.logsumexp(logits_QS, dim=1) + scale
    loss_P = torch.logaddexp(positive_P, negative_Q[query_of_P]) - positive_P
    if weights_P is None:
        return loss_P.mean()
    return (loss_P * weights_P).sum() / weights_P.sum()
