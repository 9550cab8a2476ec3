"""A gated recurrent network over packed histories (GRU4Rec: Hidasi et al., ICLR 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recsys.models.packed import ByteDropout, Packed, Recency, asking_everywhere
from recsys.models.recall import GapEncoding, Recall

# Shape suffixes in this file:
#   R rows   W places of a row   D embedding width   T real places, flat   S histories of all rows


class PackedRecurrent(nn.Module):
    """What users were at every place of their histories; shapes as in ``PackedTransformer``."""

    def __init__(
        self, *, embedding_dim: int, num_places: int, num_layers: int, num_heads: int, dropout: float,
        days: bool,
    ) -> None:  # fmt: skip
        """``num_heads``: of what is recalled beside the network's state."""
        super().__init__()
        self.days = days
        self.gap_encoding = GapEncoding(embedding_dim) if days else None
        self.dropout = ByteDropout(dropout)
        self.recurrent = nn.GRU(embedding_dim, embedding_dim, num_layers)
        self.out = nn.Linear(embedding_dim, embedding_dim)
        self.norm = nn.LayerNorm(embedding_dim)
        self.recall = Recall(embedding_dim, num_heads, Recency(num_heads, num_places, days=days))

    def forward(self, vectors_RWD: Tensor, packed: Packed) -> Tensor:
        gaps_RW = packed.gaps() if self.days else None
        x_RWD = vectors_RWD
        if self.gap_encoding is not None and gaps_RW is not None:
            x_RWD = x_RWD + self.gap_encoding(gaps_RW)
        x_TD = self.dropout(x_RWD).flatten(0, 1)
        recalled_RWD: Tensor = self.recall(vectors_RWD, asking_everywhere(packed, gaps_RW))
        place_T, sizes = by_step(packed.segment_RW)
        if not len(place_T):
            return recalled_RWD
        x_TD = x_TD[place_T]
        states, _ = self.recurrent(PackedSequence(x_TD, sizes))
        out_TD = self.norm(self.dropout(self.out(states.data)) + x_TD)
        return recalled_RWD.flatten(0, 1).index_add(0, place_T, out_TD).view_as(vectors_RWD)


def by_step(segment_RW: Tensor) -> tuple[Tensor, Tensor]:
    """The real places in the order of a PackedSequence: first events of all histories, longest first, then second ones.

    Returns places (T,) int64 in the flattened rows, and how many histories have a first, second, ... event, on the
    CPU, as torch wants it.
    """
    places = segment_RW.shape[1]
    place_T = (segment_RW.flatten() > 0).nonzero().squeeze(1)
    row_T = torch.div(place_T, places, rounding_mode="floor")
    history_T = row_T * (places + 1) + segment_RW.flatten()[place_T]
    _, history_T, lengths_S = torch.unique_consecutive(
        history_T, return_inverse=True, return_counts=True
    )
    starts_S = lengths_S.cumsum(0) - lengths_S
    step_T = torch.arange(len(place_T), device=place_T.device) - starts_S[history_T]
    # Longest first, and equal ones in their order: the same at every step.
    place_in_order_S = torch.argsort(torch.argsort(-lengths_S, stable=True), stable=True)
    key_T = step_T * max(1, len(lengths_S)) + place_in_order_S[history_T]
    return place_T[torch.argsort(key_T)], torch.bincount(step_T).cpu()
