"""Sampled softmax with negatives shared by the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Shape suffixes in this file:
#   Q query places   P predictions made there   S shared negatives   D embedding width


LEAST_LOGIT = -1e30
"""Stands for minus infinity where a difference to it must be a number."""


def sampled_softmax_loss(
    users_QD: Tensor,
    positives_PD: Tensor,
    negatives_SD: Tensor,
    *,
    query_of_P: Tensor,
    item_nums_P: Tensor,
    negatives_S: Tensor,
    chances_S: Tensor | float,
    weights_P: Tensor | None = None,
) -> Tensor:
    """Mean negative log-probability of the predicted items among themselves and the shared negatives.

    A negative counts 1 / (its chance to be drawn), so that the sum over the negatives estimates the sum over the
    whole catalogue without bias, however they are drawn: the estimator of Horvitz and Thompson (1952), as the
    "logQ" correction of Bengio and Senecal (2008). A negative that is one of the same place's positives does not
    count against it. The logits of a place are computed once, however many items are predicted from it. No
    predictions: loss 0.

    Args:
        users_QD: float32.
        positives_PD: float32, the vectors of the predicted items.
        negatives_SD: float32, those of the negatives.
        query_of_P: int64, 0 <= . < Q.
        item_nums_P: int64, from 1.
        negatives_S: int64, distinct, from 1.
        chances_S: 0 < . <= 1, of each negative to be among those drawn; a number where all have one, S / num_items.
        weights_P: float32 >= 0, of each prediction in the mean; all equal by default.
    """
    if len(item_nums_P) == 0:
        return users_QD.sum() * 0.0 + positives_PD.sum() * 0.0 + negatives_SD.sum() * 0.0
    positive_P = (users_QD[query_of_P] * positives_PD).sum(dim=1)
    ordered_S, order_S = negatives_S.sort()
    place_P = torch.searchsorted(ordered_S, item_nums_P).clamp(max=len(negatives_S) - 1)
    is_hit_P = ordered_S[place_P] == item_nums_P
    own_2K = torch.stack([query_of_P[is_hit_P], order_S[place_P[is_hit_P]]])
    chances_S = torch.as_tensor(chances_S, device=users_QD.device).expand(len(negatives_S))
    counts_S = -chances_S.log().to(users_QD.dtype)
    negative_Q: Tensor = _LogSum.apply(users_QD, negatives_SD, counts_S, own_2K)  # type: ignore[no-untyped-call]
    loss_P = torch.logaddexp(positive_P, negative_Q[query_of_P]) - positive_P
    if weights_P is None:
        return loss_P.mean()
    return (loss_P * weights_P).sum() / weights_P.sum()


class _LogSum(torch.autograd.Function):
    """(Q,): log of the sum over S of exp(users @ negatives + counts), the K pairs ``own`` left out.

    The matrix of Q x S is most of the memory and of the time of a step: it is made once, turned into exponentials
    where it lies, and kept for the way back, where autograd would make it and its exponentials anew.
    """

    @staticmethod
    def forward(
        ctx: Any, users_QD: Tensor, negatives_SD: Tensor, counts_S: Tensor, own_2K: Tensor
    ) -> Tensor:
        terms_QS = torch.addmm(counts_S, users_QD, negatives_SD.T)
        terms_QS[own_2K[0], own_2K[1]] = float("-inf")
        largest_Q1 = terms_QS.amax(dim=1, keepdim=True).clamp(min=LEAST_LOGIT)
        terms_QS.sub_(largest_Q1).exp_()
        # Nothing is left of a place whose own positives are all the negatives.
        total_Q1 = terms_QS.sum(dim=1, keepdim=True).clamp(min=torch.finfo(terms_QS.dtype).tiny)
        ctx.save_for_backward(users_QD, negatives_SD, terms_QS, total_Q1)
        return (largest_Q1 + total_Q1.log()).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_Q: Tensor) -> tuple[Tensor | None, ...]:
        users_QD, negatives_SD, terms_QS, total_Q1 = ctx.saved_tensors
        scale_Q1 = grad_Q.unsqueeze(1) / total_Q1
        return (
            (terms_QS @ negatives_SD) * scale_Q1,
            terms_QS.T @ (users_QD * scale_Q1),
            None,
            None,
        )
