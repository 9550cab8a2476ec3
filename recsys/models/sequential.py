"""Causal self-attention over a user's history. Vectors go in, never item numbers: the encoder exports alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.models.recall import FORBIDDEN, Asking, GapEncoding, Recall

# Shape suffixes in this file:
#   B histories in the batch   H places of a history, newest last   D embedding width
#   N attention heads   G groups that ask   Q places that ask in a group
INITIAL_NORM = 3.0
"""Length of a fresh item vector. An item and itself then score 9, an item and a stranger about 0 +- 1: what
was bought stands out from the first step."""

DENSE_FROM = 1 / 8
"""Where at least this share of the places asks, all go through the last block: each that asks alone would take a copy
of its history with it, which costs as much as several places."""


def gaps_between(ages_BH: Tensor, mask_BH: Tensor) -> Tensor:
    """Days from each event to the next; for the newest (place H - 1) to as_of. 0 at padding.

    Shape:
        ages_BH   (B, H) float32, age of each event at as_of in days, not growing
        mask_BH   (B, H) float32, 1 where real, left-padded
        returns   (B, H) float32, >= 0
    """
    next_BH = torch.cat([ages_BH[:, 1:], torch.zeros_like(ages_BH[:, :1])], dim=1)
    return (ages_BH - next_BH).clamp(min=0) * mask_BH


class RecencyBias(nn.Module):
    """How a head prefers the recent, counted back from the asker: per place and per day.

    By places: a learned bias per distance. By days: a power law, (1 + days)^-rate. So what is learned
    at every place of a long history holds for the newest place of a short one.

    ``packed.Recency`` adds up the same with the heads before the places, where few histories are wide: gradients of the
    two round differently.
    """

    def __init__(self, num_heads: int, history_length: int) -> None:
        super().__init__()
        self.by_distance = nn.Parameter(torch.zeros(history_length, num_heads))
        self.forgetting = nn.Parameter(torch.linspace(-2.0, 0.0, num_heads))

    def forward(self, asking: Asking) -> Tensor:
        """(G, N, Q, H), forbidden places included."""
        assert asking.log_days_GQH is not None  # its histories say when
        rate_N = nn.functional.softplus(self.forgetting)
        by_distance = self.by_distance[asking.distance_GQH]
        bias_GQHN = by_distance - rate_N * asking.log_days_GQH.unsqueeze(-1)
        return (bias_GQHN + asking.forbidden_GQH.unsqueeze(-1)).permute(0, 3, 1, 2)


class AttentionBlock(nn.Module):
    """Pre-norm causal attention and a feed-forward layer."""

    def __init__(
        self, embedding_dim: int, num_heads: int, history_length: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(embedding_dim)
        self.query = nn.Linear(embedding_dim, embedding_dim)
        self.key_value = nn.Linear(embedding_dim, 2 * embedding_dim)
        self.out = nn.Linear(embedding_dim, embedding_dim)
        self.recency = RecencyBias(num_heads, history_length)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(embedding_dim),
            nn.Linear(embedding_dim, 2 * embedding_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * embedding_dim, embedding_dim),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BHD: Tensor, asking_GQD: Tensor, asking: Asking) -> Tensor:
        """(G, Q, D): the askers after this block."""
        num_groups, num_queries, width = asking_GQD.shape
        heads = self.num_heads
        query = (
            self.query(self.norm(asking_GQD))
            .view(num_groups, num_queries, heads, width // heads)
            .transpose(1, 2)
        )
        key, value = (
            part.reshape(num_groups, part.shape[1], heads, width // heads).transpose(1, 2)
            for part in asking.histories(self.key_value(self.norm(x_BHD))).chunk(2, dim=-1)
        )
        scores_GNQH = query @ key.transpose(2, 3) * (width // heads) ** -0.5 + self.recency(asking)
        mixed_GNQD = torch.softmax(scores_GNQH, dim=-1) @ value
        mixed_GQD = mixed_GNQD.transpose(1, 2).reshape(num_groups, num_queries, width)
        x_GQD = asking_GQD + self.dropout(self.out(mixed_GQD))
        return x_GQD + self.dropout(self.feed_forward(x_GQD))  # type: ignore[no-any-return]


class SequentialEncoder(nn.Module):
    """A user as causal self-attention sees the newest place of their history.

    Shape:
        history_vectors   (B, H, D) float32, rows of the item table; zeros at padding
        history_gaps      (B, H) float32, days from each event to the next, the newest's to as_of, >= 0
        history_mask      (B, H) float32, 1 where real; left-padded, newest last
        returns           (B, D) float32; a row of zeros for an empty history

    ONNX: this forward is what is exported. B is dynamic, H is ``history_length``. The zero row is a
    promise to scoring: such users get the popular list, not a random vector.
    """

    def __init__(
        self,
        *,
        embedding_dim: int,
        history_length: int,
        num_blocks: int,
        num_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.history_length = history_length
        self.num_heads = num_heads
        self.gap_encoding = GapEncoding(embedding_dim)
        self.blocks = nn.ModuleList(
            AttentionBlock(embedding_dim, num_heads, history_length, dropout)
            for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(embedding_dim)
        self.recall = Recall(embedding_dim, num_heads, RecencyBias(num_heads, history_length))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, history_vectors: Tensor, history_gaps: Tensor, history_mask: Tensor
    ) -> Tensor:
        gaps_BH = history_gaps * history_mask
        newest = self._newest(gaps_BH, history_mask)
        user_B1D = self._encode(history_vectors, gaps_BH, history_mask, asking=newest)
        return user_B1D.squeeze(1) * history_mask[:, -1:]

    def at_places(
        self,
        vectors_BHD: Tensor,
        gaps_BH: Tensor,
        mask_BH: Tensor,
        *,
        example_Q: Tensor,
        place_Q: Tensor,
    ) -> Tensor:
        """(Q, D): what users were at some places, knowing each place and those before it.

        ``example_Q`` and ``place_Q``: int64, which of the B histories and which of its H places. The work is that of
        the longest history, however many places of padding stand before it.
        """
        first = first_real(mask_BH)
        vectors_BHD, mask_BH = vectors_BHD[:, first:], mask_BH[:, first:]
        gaps_BH, place_Q = gaps_BH[:, first:] * mask_BH, place_Q - first
        if len(place_Q) >= DENSE_FROM * mask_BH.numel():
            every = self._every(gaps_BH, mask_BH)
            user_BHD = self._encode(vectors_BHD, gaps_BH, mask_BH, asking=every, everywhere=True)
            return user_BHD[example_Q, place_Q]
        asking = self._chosen(gaps_BH, mask_BH, example_Q, place_Q)
        user_Q1D = self._encode(vectors_BHD, gaps_BH, mask_BH, asking=asking, place_Q=place_Q)
        return user_Q1D.squeeze(1)

    def _encode(
        self, vectors_BHD: Tensor, gaps_BH: Tensor, mask_BH: Tensor, *, asking: Asking,
        place_Q: Tensor | None = None, everywhere: bool = False,
    ) -> Tensor:  # fmt: skip
        x_BHD = self.dropout(vectors_BHD + self.gap_encoding(gaps_BH))
        for block in self.blocks[:-1]:
            x_BHD = block(x_BHD, x_BHD, self._every(gaps_BH, mask_BH))
        # Only the places that are wanted go through the last block: in training a few of H, or nearly all.
        asking_GQD = x_BHD if everywhere else x_BHD[:, -1:]
        if place_Q is not None:
            asking_GQD = x_BHD[asking.example_G, place_Q].unsqueeze(1)
        user_GQD = self.norm(self.blocks[-1](x_BHD, asking_GQD, asking))
        return user_GQD + self.recall(vectors_BHD, asking)  # type: ignore[no-any-return]

    def _newest(self, gaps_BH: Tensor, mask_BH: Tensor) -> Asking:
        log_days_B1H = torch.log1p(ages_of(gaps_BH)).unsqueeze(1)
        distance_H = torch.arange(self.history_length - 1, -1, -1, device=gaps_BH.device)
        return Asking(
            None, distance_H.view(1, 1, -1), log_days_B1H, FORBIDDEN * (1.0 - mask_BH).unsqueeze(1)
        )

    def _every(self, gaps_BH: Tensor, mask_BH: Tensor) -> Asking:
        ages_BH = ages_of(gaps_BH)
        at_asker_BQ1 = (ages_BH - gaps_BH).unsqueeze(2)
        log_days_BQH = torch.log1p((ages_BH.unsqueeze(1) - at_asker_BQ1).clamp(min=0))
        place_H = torch.arange(gaps_BH.shape[1], device=gaps_BH.device)
        distance_QH = place_H.unsqueeze(1) - place_H.unsqueeze(0)
        forbidden_BQH = torch.maximum(
            (distance_QH < 0).to(gaps_BH.dtype), 1.0 - mask_BH.unsqueeze(1)
        )
        return Asking(
            None, distance_QH.clamp(min=0).unsqueeze(0), log_days_BQH, FORBIDDEN * forbidden_BQH
        )

    def _chosen(
        self, gaps_BH: Tensor, mask_BH: Tensor, example_Q: Tensor, place_Q: Tensor
    ) -> Asking:
        ages_BH = ages_of(gaps_BH)
        at_asker_Q1 = (ages_BH - gaps_BH)[example_Q, place_Q].unsqueeze(1)
        log_days_QH = torch.log1p((ages_BH[example_Q] - at_asker_Q1).clamp(min=0))
        place_H = torch.arange(gaps_BH.shape[1], device=gaps_BH.device)
        distance_QH = place_Q.unsqueeze(1) - place_H
        forbidden_QH = torch.maximum((distance_QH < 0).to(gaps_BH.dtype), 1.0 - mask_BH[example_Q])
        return Asking(
            example_Q, distance_QH.clamp(min=0).unsqueeze(1), log_days_QH.unsqueeze(1),
            FORBIDDEN * forbidden_QH.unsqueeze(1),
        )  # fmt: skip


def first_real(mask_BH: Tensor) -> int:
    """The leftmost place that any history has; the last one where all are empty."""
    real_H = (mask_BH > 0).any(dim=0)
    return int(real_H.int().argmax()) if real_H.any() else mask_BH.shape[1] - 1


def ages_of(gaps_BH: Tensor) -> Tensor:
    """(B, H): days from each event to as_of; 0 gaps at padding."""
    return torch.flip(torch.cumsum(torch.flip(gaps_BH, [1]), dim=1), [1])


class SequentialModel(nn.Module):
    """The item table and the encoder over its rows; one table for what was bought and what is offered.

    ``items`` has ``num_items + 1`` rows; row 0 is padding, stays zero and gets no gradient.
    """

    def __init__(self, *, num_items: int, embedding_dim: int, encoder: SequentialEncoder) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, embedding_dim, padding_idx=0)
        nn.init.normal_(self.items.weight, std=INITIAL_NORM * embedding_dim**-0.5)
        with torch.no_grad():
            self.items.weight[0] = 0
        self.encoder = encoder

    @property
    def num_items(self) -> int:
        return self.items.num_embeddings - 1

    def at_places(
        self, item_nums_BH: Tensor, gaps_BH: Tensor, example_Q: Tensor, place_Q: Tensor
    ) -> Tensor:
        """(Q, D): see ``SequentialEncoder.at_places``."""
        mask_BH = (item_nums_BH != 0).to(gaps_BH.dtype)
        vectors_BHD = self.items(item_nums_BH)
        return self.encoder.at_places(
            vectors_BHD, gaps_BH, mask_BH, example_Q=example_Q, place_Q=place_Q
        )

    def user_vectors(self, item_nums_BH: Tensor, gaps_BH: Tensor) -> Tensor:
        """What the exported encoder gives for these histories."""
        mask_BH = (item_nums_BH != 0).to(gaps_BH.dtype)
        return self.encoder(self.items(item_nums_BH), gaps_BH, mask_BH)  # type: ignore[no-any-return]
