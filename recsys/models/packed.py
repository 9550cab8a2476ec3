"""Causal self-attention over rows that hold several histories end to end, without padding between them.

Histories of a shop are short and unequal: in a batch as wide as the longest one most places are padding. Laid end to
end into rows of one width, next to none are, and a history sees itself alone through the mask (sequence packing, Krell
et al. 2021, "Efficient Sequence Packing without Cross-contamination").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recsys.models.places import Predictions
from recsys.models.recall import FORBIDDEN, Asking, GapEncoding, Recall

# Shape suffixes in this file:
#   R rows   W places of a row   D embedding width   N attention heads
#   Q places that predict, flat over the rows   P predictions
LEVELS = 256
"""Chances of dropout are multiples of 1 / LEVELS: a byte decides."""


class Packed(NamedTuple):
    """Rows of histories, each oldest first."""

    segment_RW: Tensor
    """int64, which history of the row, from 1; 0 is padding."""
    ages_RW: Tensor
    """float32, days before the cut-off, not growing within a history; zeros where only the order is known."""

    def gaps(self) -> Tensor:
        """(R, W) float32: days to the next event of the history; of its newest to the cut-off. 0 at padding."""
        next_RW = torch.nn.functional.pad(self.ages_RW[:, 1:] * self.goes_on(), (0, 1))
        return (self.ages_RW - next_RW).clamp(min=0) * (self.segment_RW > 0)

    def goes_on(self) -> Tensor:
        """(R, W - 1) bool: the place after this one is of the same history."""
        return (self.segment_RW[:, 1:] == self.segment_RW[:, :-1]) & (self.segment_RW[:, 1:] > 0)


def segments(item_nums_RW: Tensor, targets_RW: Tensor) -> Tensor:
    """(R, W) int64 as ``Packed.segment_RW``: a real place that is no target begins a history."""
    real_RW = item_nums_RW != 0
    return (real_RW & ~targets_RW).cumsum(dim=1) * real_RW


def predictions(item_nums_RW: Tensor, packed: Packed, *, quiet_days: float = 0.0) -> Predictions:
    """Each event but a history's first, and the newest place before it that is at least ``quiet_days`` older.

    As ``places.prediction_places``, of which this is the form for several histories in a row. An event that has no
    such place is not predicted.
    """
    num_places = item_nums_RW.shape[1]
    if quiet_days > 0:
        # Later histories of a row lie after all times of earlier ones.
        ages_RW = packed.ages_RW.double()
        span = float(ages_RW.max()) + 2 * quiet_days + 1 if ages_RW.numel() else 1.0
        times_RW = packed.segment_RW * span - ages_RW
        found_RW = torch.searchsorted(times_RW, times_RW - quiet_days, right=True) - 1
    else:
        found_RW = torch.arange(num_places).expand_as(item_nums_RW) - 1
    same_RW = packed.segment_RW.gather(1, found_RW.clamp(min=0)) == packed.segment_RW
    wanted_RW = (found_RW >= 0) & same_RW & (packed.segment_RW > 0)
    rows = torch.arange(len(item_nums_RW)).unsqueeze(1) * num_places
    query_Q, query_of_P = torch.unique((rows + found_RW)[wanted_RW], return_inverse=True)
    row_Q = torch.div(query_Q, num_places, rounding_mode="floor")
    return Predictions(row_Q, query_Q % num_places, query_of_P, item_nums_RW[wanted_RW])


class ByteDropout(nn.Module):
    """Dropout that draws bytes: torch's own draws take a fifth of a step of a small model on a CPU.

    torch's generator seeds numpy's, so the same state gives the same mask.
    """

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.kept = round((1.0 - chance) * LEVELS)
        self._factors = np.zeros(LEVELS, np.float32)
        self._factors[: self.kept] = LEVELS / self.kept

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.kept == LEVELS:
            return x
        seed = int(torch.randint(0, 2**62, ()))
        drawn = np.frombuffer(np.random.Generator(np.random.SFC64(seed)).bytes(x.numel()), np.uint8)
        factors = torch.from_numpy(self._factors.take(drawn)).view(x.shape)
        return x * factors.to(x.device, x.dtype)


def asking_everywhere(packed: Packed, gaps_RW: Tensor | None) -> Asking:
    """Every place, of the places of its history up to itself; ``gaps_RW``: None without days."""
    segment_RW = packed.segment_RW
    place_W = torch.arange(segment_RW.shape[1], device=segment_RW.device)
    distance_WW = place_W.unsqueeze(1) - place_W
    allowed_RWW = (segment_RW.unsqueeze(2) == segment_RW.unsqueeze(1)) & (distance_WW >= 0)
    forbidden_RWW = torch.zeros(allowed_RWW.shape, device=segment_RW.device)
    forbidden_RWW.masked_fill_(~allowed_RWW, FORBIDDEN)
    log_days_RWW = None
    if gaps_RW is not None:
        moment_RW1 = (packed.ages_RW - gaps_RW).unsqueeze(2)
        log_days_RWW = torch.log1p((packed.ages_RW.unsqueeze(1) - moment_RW1).clamp(min=0))
    return Asking(None, distance_WW.clamp(min=0).unsqueeze(0), log_days_RWW, forbidden_RWW)


class Recency(nn.Module):
    """How a head prefers the recent: a learned bias per place back, and a power law of the days where there are any.

    The biases begin as a power law of the places, steeper from head to head: what a history's newest events say counts
    most, and it need not be learned anew from every place.
    """

    def __init__(self, num_heads: int, num_places: int, *, days: bool) -> None:
        super().__init__()
        places_W = torch.log1p(torch.arange(num_places, dtype=torch.float32))
        self.by_distance = nn.Parameter(
            -places_W.unsqueeze(1) * torch.linspace(0.2, 1.0, num_heads)
        )
        self.forgetting = nn.Parameter(torch.linspace(-2.0, 0.0, num_heads)) if days else None

    def forward(self, asking: Asking) -> Tensor:
        """(R or 1, N, W, W), what is forbidden included."""
        bias = self.by_distance[asking.distance_GQH].permute(0, 3, 1, 2)
        if self.forgetting is not None and asking.log_days_GQH is not None:
            rate_N11 = nn.functional.softplus(self.forgetting).view(-1, 1, 1)
            bias = bias - rate_N11 * asking.log_days_GQH.unsqueeze(1)
        return bias + asking.forbidden_GQH.unsqueeze(1)


class Block(nn.Module):
    """Pre-norm attention and a feed-forward layer."""

    def __init__(self, width: int, num_heads: int, num_places: int, dropout: float, *, days: bool):
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.recency = Recency(num_heads, num_places, days=days)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), ByteDropout(dropout),
            nn.Linear(2 * width, width),
        )  # fmt: skip
        self.dropout = ByteDropout(dropout)

    def forward(self, x_RWD: Tensor, asking: Asking) -> Tensor:
        """(R, W, D)."""
        rows, places, width = x_RWD.shape
        heads, of_head = self.num_heads, width // self.num_heads
        query, key, value = (
            self.query_key_value(self.norm(x_RWD))
            .view(rows, places, 3, heads, of_head)
            .permute(2, 0, 3, 1, 4)
        )
        scores_RNWW = query @ key.transpose(2, 3) * of_head**-0.5 + self.recency(asking)
        mixed_RWD = (
            (torch.softmax(scores_RNWW, dim=-1) @ value)
            .transpose(1, 2)
            .reshape(rows, places, width)
        )
        x_RWD = x_RWD + self.dropout(self.out(mixed_RWD))
        return x_RWD + self.dropout(self.feed_forward(x_RWD))  # type: ignore[no-any-return]


class PackedTransformer(nn.Module):
    """What users were at every place of their histories, knowing that place and those before it.

    Shape:
        vectors_RWD   (R, W, D) float32, rows of the item table; zeros at padding
        packed        of R rows, W <= num_places
        returns       (R, W, D) float32; what stands at padding means nothing
    """

    def __init__(
        self, *, embedding_dim: int, num_places: int, num_blocks: int, num_heads: int, dropout: float,
        days: bool,
    ) -> None:  # fmt: skip
        """``days``: use the days between events; without them only their order counts."""
        super().__init__()
        self.days = days
        self.gap_encoding = GapEncoding(embedding_dim) if days else None
        self.blocks = nn.ModuleList(
            Block(embedding_dim, num_heads, num_places, dropout, days=days)
            for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(embedding_dim)
        self.recall = Recall(embedding_dim, num_heads, Recency(num_heads, num_places, days=days))
        self.dropout = ByteDropout(dropout)

    def forward(self, vectors_RWD: Tensor, packed: Packed) -> Tensor:
        gaps_RW = packed.gaps() if self.days else None
        x_RWD = vectors_RWD
        if self.gap_encoding is not None and gaps_RW is not None:
            x_RWD = x_RWD + self.gap_encoding(gaps_RW)
        x_RWD = self.dropout(x_RWD)
        asking = asking_everywhere(packed, gaps_RW)
        for block in self.blocks:
            x_RWD = block(x_RWD, asking)
        return self.norm(x_RWD) + self.recall(vectors_RWD, asking)  # type: ignore[no-any-return]
