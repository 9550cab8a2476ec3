"""The sequential model as a task: histories in, sampled softmax over what came next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from recsys.config.sections import TrainingConfig
from recsys.data import Batch, Examples, draw_negatives
from recsys.embeddings import Comm, EmbeddingTable, LazyAdam, ShardedEmbeddings
from recsys.models.losses import sampled_softmax_loss
from recsys.models.places import Predictions, prediction_places
from recsys.models.sequential import (
    INITIAL_NORM,
    SequentialEncoder,
    SequentialModel,
    gaps_between,
)
from recsys.training.seeded import seeded
from recsys.training.spec import Fit
from recsys.training.task import Asked
from recsys.training.validation import ValidationUsers, ndcg_of, read_users

# Shape suffixes in this file:
#   B examples of the batch   W = H + 1 places of an example   Q query places   P predictions   S negatives
#   D embedding width

ITEMS = "items"
"""The table of what was bought and what is offered; row 0 is padding."""


@dataclass(frozen=True)
class Context:
    """What the loss needs of a batch beside the vectors."""

    item_nums_BW: Tensor
    gaps_BW: Tensor
    predictions: Predictions
    negatives_S: Tensor

    def to(self, device: torch.device) -> Context:
        return Context(
            self.item_nums_BW.to(device),
            self.gaps_BW.to(device),
            Predictions(*(column.to(device) for column in self.predictions)),
            self.negatives_S.to(device),
        )


class SequentialTask:
    """Every place of a history that precedes a target event predicts it."""

    metric = "ndcg_at_10"

    def __init__(self, fit: Fit) -> None:
        self.config, self.num_items, self.history_length = (
            fit.training,
            fit.num_items,
            fit.history_length,
        )
        self.users: ValidationUsers | None = None
        if fit.validation:
            self.users = read_users(Path(fit.validation), history_length=fit.history_length)
        with seeded(fit.training.seed):
            self.encoder = encoder_of(fit.training, fit.history_length)
        self.dense: nn.Module = nn.ModuleDict({"encoder": self.encoder})
        width = fit.training.embedding_dim
        self.tables: tuple[EmbeddingTable, ...] = (
            EmbeddingTable(
                ITEMS, fit.num_items + 1, width, LazyAdam(fit.training.learning_rate),
                initial_std=INITIAL_NORM * width**-0.5, padding=True,
            ),
        )  # fmt: skip

    def keep(self, examples: Examples) -> Examples:
        predictions = prediction_places(
            examples.item_nums_EW, examples.ages_days_EW, examples.targets_EW,
            quiet_days=self.config.quiet_days,
        )  # fmt: skip
        is_kept_E = torch.zeros(len(examples), dtype=torch.bool)
        is_kept_E[predictions.example_Q] = True
        return examples.kept(is_kept_E)

    def ask(self, batch: Batch, draw: torch.Generator) -> Asked:
        predictions = prediction_places(
            batch.item_nums_BW, batch.ages_days_BW, batch.targets_BW,
            quiet_days=self.config.quiet_days,
        )  # fmt: skip
        negatives_S = draw_negatives(self.num_items, self.config.num_negatives, draw)
        gaps_BW = gaps_between(batch.ages_days_BW, (batch.item_nums_BW != 0).float())
        ids = torch.cat([batch.item_nums_BW.flatten(), predictions.item_nums_P, negatives_S])
        return Asked({ITEMS: ids}, Context(batch.item_nums_BW, gaps_BW, predictions, negatives_S))

    def loss(self, asked: Asked, vectors: Mapping[str, Tensor]) -> Tensor:
        """Sampled softmax over what the batch has to predict; every place that predicts counts the same.

        An example has H + 1 places: the model reads the first H.
        """
        context: Context = asked.context.to(vectors[ITEMS].device)
        found = context.predictions
        nums_BW = context.item_nums_BW
        history, positives_PD, negatives_SD = vectors[ITEMS].split_with_sizes(
            [nums_BW.numel(), len(found.item_nums_P), len(context.negatives_S)]
        )
        vectors_BHD = history.view(*nums_BW.shape, history.shape[1])[:, :-1]
        users_QD = self.encoder.at_places(
            vectors_BHD, context.gaps_BW[:, :-1], (nums_BW[:, :-1] != 0).float(),
            example_Q=found.example_Q, place_Q=found.place_Q,
        )  # fmt: skip
        # A large invoice is one visit: its lines share the weight of one prediction.
        num_predicted_Q = torch.bincount(found.query_of_P, minlength=len(users_QD))
        return sampled_softmax_loss(
            users_QD, positives_PD, negatives_SD,
            query_of_P=found.query_of_P, item_nums_P=found.item_nums_P, negatives_S=context.negatives_S,
            chances_S=len(context.negatives_S) / self.num_items, weights_P=1.0 / num_predicted_Q[found.query_of_P],
        )  # fmt: skip

    def validate(
        self,
        embeddings: ShardedEmbeddings,
        comm: Comm,
        each_batch: Callable[[], None] = lambda: None,
    ) -> float | None:
        """NDCG@10 over the full catalogue."""
        if self.users is None:
            return None

        def user_vectors(nums_BH: Tensor, gaps_BH: Tensor) -> Tensor:
            vectors_BHD = embeddings.look_up({ITEMS: nums_BH}, learn=False)[ITEMS]
            mask_BH = (nums_BH != 0).float().to(vectors_BHD.device)
            return self.encoder(vectors_BHD, gaps_BH.to(vectors_BHD.device), mask_BH)  # type: ignore[no-any-return]

        def best(queries_QD: Tensor, k: int) -> Tensor:
            return embeddings.best(ITEMS, queries_QD, min(k, self.num_items))[0].cpu()

        return ndcg_of(self.users, user_vectors, best, comm, each_batch=each_batch)


def encoder_of(config: TrainingConfig, history_length: int) -> SequentialEncoder:
    """The architecture that ``config`` names, its weights drawn from torch's own generator."""
    return SequentialEncoder(
        embedding_dim=config.embedding_dim, history_length=history_length,
        num_blocks=config.num_blocks, num_heads=config.num_heads, dropout=config.dropout,
    )  # fmt: skip


def model_of(config: TrainingConfig, *, num_items: int, history_length: int) -> SequentialModel:
    """Table and encoder as one module, its weights still to be loaded."""
    return SequentialModel(
        num_items=num_items,
        embedding_dim=config.embedding_dim,
        encoder=encoder_of(config, history_length),
    )
