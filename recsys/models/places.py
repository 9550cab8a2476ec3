"""Which place of a history predicts which event."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Shape suffixes in this file:
#   B examples   H places   Q query places, flat over the batch   P predictions


class Predictions(NamedTuple):
    """P predictions made at Q places."""

    example_Q: Tensor
    """int64: which example of the batch."""
    place_Q: Tensor
    """int64: which of its places."""
    query_of_P: Tensor
    """int64: which of the Q places makes this prediction."""
    item_nums_P: Tensor
    """int64: the item to be predicted."""


def prediction_places(
    item_nums_BH: Tensor,
    ages_BH: Tensor,
    targets_BH: Tensor,
    *,
    quiet_days: float = 0.0,
    may_predict_BH: Tensor | None = None,
) -> Predictions:
    """Each target event, and the newest place before it that is at least ``quiet_days`` older.

    With ``quiet_days`` 0 an event is predicted from the place before it. With more, from the place
    after which the user went quiet: the lines of one invoice share a minute, and lists are made for
    the next visit, not for the next line. Padding neither predicts nor is predicted.

    Shape:
        item_nums_BH   (B, H) int64, left-padded with 0
        ages_BH        (B, H) float32, days, not growing
        targets_BH     (B, H) bool or uint8
        may_predict_BH (B, H) bool: events whose place may not are left out; None: every event's may
    """
    batch, length = item_nums_BH.shape
    real_BH = item_nums_BH != 0
    # Ascending times; padding lies before everything.
    times_BH = torch.where(real_BH, -ages_BH, float("-inf"))
    if quiet_days > 0:
        found_BH = torch.searchsorted(times_BH, times_BH - quiet_days, right=True) - 1
    else:
        found_BH = (torch.arange(length, device=item_nums_BH.device) - 1).expand(batch, length)
    asked_BH = real_BH if may_predict_BH is None else real_BH & may_predict_BH
    predicts_BH = torch.gather(asked_BH, 1, found_BH.clamp(min=0)) & (found_BH >= 0)
    wanted_BH = real_BH & targets_BH.bool() & predicts_BH
    rows = torch.arange(batch, device=item_nums_BH.device).unsqueeze(1) * length
    query_Q, query_of_P = torch.unique((rows + found_BH)[wanted_BH], return_inverse=True)
    example_Q = torch.div(query_Q, length, rounding_mode="floor")
    return Predictions(example_Q, query_Q % length, query_of_P, item_nums_BH[wanted_BH])
