"""What networks over histories share: who asks whom, gaps as vectors, and what is recalled as it was."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

# Shape suffixes in this file:
#   B histories, or rows of several   H places of one   D embedding width   N attention heads
#   G groups that ask   Q places that ask in a group
FORBIDDEN = -1e9
"""Added to a forbidden attention score. Finite, so that a history of padding alone gives no NaN."""

LOG_HOURS_SCALE = 8.0
"""log1p of the hours in a year is about 9: gaps reach the network at a size near one."""


class Asking(NamedTuple):
    """Which places ask in a layer. G groups of Q askers; the askers of a group see the same history.

    Every place of every history: G = B, Q = H. The newest place: G = B, Q = 1. Chosen places, flat:
    G of them, Q = 1, ``example_G`` naming the history of each.
    """

    example_G: Tensor | None
    """int64, or None where group g asks history g."""
    distance_GQH: Tensor
    """int64, how many places ago, 0 where not before the asker; G may be 1."""
    log_days_GQH: Tensor | None
    """float32, log1p of the days from each place to the moment asked about; None where only the order is known."""
    forbidden_GQH: Tensor
    """float32, FORBIDDEN where a place is padding, later than the asker or of another history, else 0."""

    def histories(self, x: Tensor) -> Tensor:
        """(G, …) from (B, …)."""
        return x if self.example_G is None else x[self.example_G]


class GapEncoding(nn.Sequential):
    """How long it was until the next event, as a vector."""

    def __init__(self, embedding_dim: int) -> None:
        super().__init__(
            nn.Linear(1, embedding_dim), nn.GELU(), nn.Linear(embedding_dim, embedding_dim)
        )

    def forward(self, gaps_BH: Tensor) -> Tensor:
        """(B, H, D) of days (B, H), >= 0."""
        log_hours_BH1 = torch.log1p(gaps_BH * 24.0).unsqueeze(-1) / LOG_HOURS_SCALE
        return super().forward(log_hours_BH1)  # type: ignore[no-any-return, no-untyped-call]


class Recall(nn.Module):
    """What the user had before, as it is: weighted means of the history's own vectors.

    Attention has to learn to pass a vector through unchanged; this does so from the first step, and each head learns
    which items count and how soon that fades. So what is bought again is found at once; and with one table for what was
    had and what is offered this is a model of similar items, which learns from few events (as FISM: Kabbur, Ning and
    Karypis, KDD 2013). Attention need only learn what is beyond it.
    """

    def __init__(self, embedding_dim: int, num_heads: int, recency: nn.Module) -> None:
        """``recency``: from ``Asking`` to (G, N, Q, H), forbidden places included; G may be 1."""
        super().__init__()
        self.again = nn.Linear(embedding_dim, num_heads)
        self.recency = recency
        self.gate = nn.Parameter(torch.ones(num_heads))

    def forward(self, vectors_BHD: Tensor, asking: Asking) -> Tensor:
        """(G, Q, D)."""
        again_GN1H = asking.histories(self.again(vectors_BHD)).transpose(1, 2).unsqueeze(2)
        weights_GNQH = torch.sigmoid(again_GN1H + self.recency(asking))
        weights_GNQH = weights_GNQH * torch.rsqrt(weights_GNQH.sum(dim=-1, keepdim=True) + 1.0)
        weights_GQH = (weights_GNQH * self.gate.view(1, -1, 1, 1)).sum(dim=1)
        return weights_GQH @ asking.histories(vectors_BHD)
