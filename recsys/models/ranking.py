"""The ranking model's dense part: field vectors in, the logit of each candidate out. No item number enters it.

One trunk, several ways in which fields meet: cross layers (DCN-v2: Wang et al. 2021), pairwise dots (DLRM:
Naumov et al. 2019), a factorisation machine (Rendle 2010), neural matrix factorisation (NeuMF: He et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.config.ranking import Interaction
from recsys.models.ranking_fields import FIELDS

# Shape suffixes in this file:
#   B users at a moment   M candidates of each   U user fields   C candidate fields   F = U + C fields
#   D embedding width   X = F D + 1, all fields and the number beside each other   P pairs of fields

NUMBER_SCALE = 0.1
"""log1p of a count is up to about 10: numbers reach the network at a size near one."""

INITIAL_STD = 0.05
"""Of fresh field vectors: small beside what a few updates make of them."""


class CrossLayers(nn.Module):
    """x <- x0 * (W x + b) + x, several times, W of a bounded rank; then a perceptron: DCN-v2's stacked form.

    Shape:
        fields_BMFD   (B, M, F, D) float32
        numbers_BM1   (B, M, 1) float32; x0 is both beside each other, (B, M, X)
        returns       (B, M, 1) float32
    """

    def __init__(
        self, width: int, *, num_layers: int, rank: int, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(_matrix(width, rank) for _ in range(num_layers))
        self.deep = perceptron(width, hidden, dropout)

    def forward(self, fields_BMFD: Tensor, numbers_BM1: Tensor) -> Tensor:
        first_BMX = beside(fields_BMFD, numbers_BM1)
        x_BMX = first_BMX
        for cross in self.crosses:
            x_BMX = first_BMX * cross(x_BMX) + x_BMX
        return self.deep(x_BMX)  # type: ignore[no-any-return]


class PairwiseDots(nn.Module):
    """Every two fields' dot product, the number as a field of its own by a small perceptron; above them another.

    Shape:
        fields_BMFD   (B, M, F, D) float32
        numbers_BM1   (B, M, 1) float32; a field more, so P = (F + 1) F / 2
        returns       (B, M, 1) float32
    """

    place_P: Tensor

    def __init__(
        self, num_fields: int, embedding_dim: int, *, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(1, embedding_dim), nn.ReLU())
        pairs = torch.tril_indices(num_fields + 1, num_fields + 1, offset=-1)
        self.register_buffer("place_P", pairs[0] * (num_fields + 1) + pairs[1], persistent=False)
        self.top = perceptron(embedding_dim + pairs.shape[1], hidden, dropout)

    def forward(self, fields_BMFD: Tensor, numbers_BM1: Tensor) -> Tensor:
        number_BMD = self.bottom(numbers_BM1)
        all_BMFD = torch.cat([fields_BMFD, number_BMD.unsqueeze(2)], dim=2)
        dots_BMP = (all_BMFD @ all_BMFD.transpose(2, 3)).flatten(2)[:, :, self.place_P]
        return self.top(torch.cat([number_BMD, dots_BMP], dim=2))  # type: ignore[no-any-return]


class FactorizationMachine(nn.Module):
    """The sum of every two fields' dot products: half of the square of the sum less the sum of the squares.

    Shape:
        fields_BMFD   (B, M, F, D) float32
        numbers_BM1   (B, M, 1) float32, not looked at
        returns       (B, M, 1) float32
    """

    def forward(self, fields_BMFD: Tensor, numbers_BM1: Tensor) -> Tensor:
        square_of_sum_BMD = fields_BMFD.sum(dim=2).square()
        sum_of_squares_BMD = fields_BMFD.square().sum(dim=2)
        return 0.5 * (square_of_sum_BMD - sum_of_squares_BMD).sum(dim=2, keepdim=True)


class NeuralFactorization(nn.Module):
    """NeuMF on user and item: half of their vectors are multiplied, the other half goes through a perceptron.

    Shape:
        fields_BMFD   (B, M, F, D) float32, D even; field 0 is the user, ``item_field`` the item, the rest not looked at
        numbers_BM1   (B, M, 1) float32, not looked at
        returns       (B, M, 1) float32
    """

    def __init__(
        self, item_field: int, embedding_dim: int, *, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.item_field, self.half_dim = item_field, embedding_dim // 2
        self.product = nn.Linear(self.half_dim, 1, bias=False)
        nn.init.ones_(self.product.weight)  # plain matrix factorisation, to begin with
        self.deep = perceptron(2 * self.half_dim, hidden, dropout)

    def forward(self, fields_BMFD: Tensor, numbers_BM1: Tensor) -> Tensor:
        user_BMD, item_BMD = fields_BMFD[:, :, 0], fields_BMFD[:, :, self.item_field]
        half = self.half_dim
        product_BM1 = self.product(user_BMD[..., :half] * item_BMD[..., :half])
        deep_BM1 = self.deep(torch.cat([user_BMD[..., half:], item_BMD[..., half:]], dim=2))
        return product_BM1 + deep_BM1  # type: ignore[no-any-return]


class Nothing(nn.Module):
    """Fields do not meet: logistic regression, crossed fields included. Zeros, (B, M, 1)."""

    def forward(self, fields_BMFD: Tensor, numbers_BM1: Tensor) -> Tensor:
        return torch.zeros_like(numbers_BM1)


class RankingTower(nn.Module):
    """How likely each candidate is what the user takes, among the candidates it was trained to tell apart.

    Shape:
        user_vectors        (B, U, D) float32, in the order of USER_FIELDS; zeros where unknown
        candidate_vectors   (B, M, C, D) float32, in the order of CANDIDATE_FIELDS
        candidate_numbers   (B, M, 1) float32, log1p of the item's events
        returns             (B, M) float32, logits

    ONNX: this forward is what is exported; B and M are dynamic. A first-order term stands beside every
    interaction, so that each of them contains the logistic baseline.
    """

    def __init__(
        self,
        *,
        interaction: Interaction,
        embedding_dim: int,
        num_negatives: int,
        hidden: Sequence[int],
        num_cross_layers: int,
        cross_rank: int,
        dropout: float,
        field_dropout: float,
    ) -> None:
        """As ``RankingConfig`` has them; ``num_negatives`` give the probability that an untrained tower starts from."""
        super().__init__()
        width = len(FIELDS) * embedding_dim + 1
        self.embedding_dim, self.field_dropout = embedding_dim, field_dropout
        self.first_order = nn.Linear(width, 1)
        nn.init.constant_(self.first_order.bias, -math.log(num_negatives))
        match interaction:
            case "dcn":
                self.interaction: nn.Module = CrossLayers(
                    width, num_layers=num_cross_layers, rank=cross_rank, hidden=hidden, dropout=dropout
                )  # fmt: skip
            case "dlrm":
                self.interaction = PairwiseDots(
                    len(FIELDS), embedding_dim, hidden=hidden, dropout=dropout
                )
            case "fm":
                self.interaction = FactorizationMachine()
            case "ncf":
                self.interaction = NeuralFactorization(
                    FIELDS.index("item"), embedding_dim, hidden=hidden, dropout=dropout
                )
            case "linear":
                self.interaction = Nothing()
            case _:
                assert_never(interaction)

    def forward(
        self, user_vectors: Tensor, candidate_vectors: Tensor, candidate_numbers: Tensor
    ) -> Tensor:
        num_candidates = candidate_vectors.shape[1]
        user_BMUD = self._some(user_vectors).unsqueeze(1).expand(-1, num_candidates, -1, -1)
        fields_BMFD = torch.cat([user_BMUD, self._some(candidate_vectors)], dim=2)
        numbers_BM1 = candidate_numbers * NUMBER_SCALE
        first_BM1 = self.first_order(beside(fields_BMFD, numbers_BM1))
        return (first_BM1 + self.interaction(fields_BMFD, numbers_BM1)).squeeze(2)  # type: ignore[no-any-return]

    def _some(self, vectors: Tensor) -> Tensor:
        """In training whole fields go missing now and then.

        A rare row (a user, a pair of items) recognises the few positives it was ever in. So that the other fields
        learn what holds for rows that are new, which are zeros, they must at times do without it.
        """
        if not (self.training and self.field_dropout):
            return vectors
        return vectors * functional.dropout(torch.ones_like(vectors[..., :1]), self.field_dropout)


def ranking_loss(logits_BM: Tensor, weights_BM: Tensor) -> Tensor:
    """Weighted mean of the logistic loss; the first candidate of each row is what was taken, the others are not.

    Nothing shown: 0, with every gradient there all the same.

    Shape:
        logits_BM    (B, M) float32
        weights_BM   (B, M) float32, >= 0; 0 for a candidate that is not to count
        returns      () float32
    """
    labels_BM = torch.zeros_like(logits_BM)
    labels_BM[:, :1] = 1.0
    losses_BM = functional.binary_cross_entropy_with_logits(logits_BM, labels_BM, reduction="none")
    return (losses_BM * weights_BM).sum() / weights_BM.sum().clamp(min=1.0)


def beside(fields_BMFD: Tensor, numbers_BM1: Tensor) -> Tensor:
    """(B, M, X)."""
    return torch.cat([fields_BMFD.flatten(2), numbers_BM1], dim=2)


def perceptron(width: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Rectified layers, and one number at the end, small at first: the first-order term leads."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
        width = size
    last = nn.Linear(width, 1, bias=False)
    nn.init.normal_(last.weight, std=0.1 * width**-0.5)
    return nn.Sequential(*layers, last)


def _matrix(width: int, rank: int) -> nn.Module:
    if not 0 < rank < width:
        return nn.Linear(width, width)
    return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))
