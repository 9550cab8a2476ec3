"""What is trained, and on what: the model of a fit, its loss, and the examples that have something to predict."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys.config.sections import TrainingConfig
from recsys.data import Batch, Examples
from recsys.models import (
    SequentialEncoder,
    SequentialModel,
    gaps_between,
    prediction_places,
    sampled_softmax_loss,
)
from recsys.training.spec import Fit


def build_model(fit: Fit) -> SequentialModel:
    """The model of a fit, its weights drawn from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.training.seed)
        return model_of(fit.training, num_items=fit.num_items, history_length=fit.history_length)


def model_of(config: TrainingConfig, *, num_items: int, history_length: int) -> SequentialModel:
    """The architecture that ``config`` names, its weights still to be drawn or loaded."""
    encoder = SequentialEncoder(
        embedding_dim=config.embedding_dim,
        history_length=history_length,
        num_blocks=config.num_blocks,
        num_heads=config.num_heads,
        dropout=config.dropout,
    )
    return SequentialModel(num_items=num_items, embedding_dim=config.embedding_dim, encoder=encoder)


def batch_loss(
    model: SequentialModel, batch: Batch, negatives_S: Tensor, *, quiet_days: float
) -> Tensor:
    """Sampled softmax over what the batch has to predict; every place that predicts counts the same.

    An example has H + 1 places: the model reads the first H.
    """
    mask_BW = (batch.item_nums_BW != 0).float()
    gaps_BW = gaps_between(batch.ages_days_BW, mask_BW)
    predictions = prediction_places(
        batch.item_nums_BW, batch.ages_days_BW, batch.targets_BW, quiet_days=quiet_days
    )
    users_QD = model.at_places(
        batch.item_nums_BW[:, :-1], gaps_BW[:, :-1], predictions.example_Q, predictions.place_Q
    )
    # A large invoice is one visit: its lines share the weight of one prediction.
    num_predicted_Q = torch.bincount(predictions.query_of_P, minlength=len(users_QD))
    return sampled_softmax_loss(
        users_QD,
        model.items.weight,
        predictions.query_of_P,
        predictions.item_nums_P,
        negatives_S,
        weights_P=1.0 / num_predicted_Q[predictions.query_of_P],
    )


def that_predict(examples: Examples, *, quiet_days: float) -> Examples:
    """The examples with something to predict: users of one visit teach nothing and cost as much."""
    predictions = prediction_places(
        examples.item_nums_EW, examples.ages_days_EW, examples.targets_EW, quiet_days=quiet_days
    )
    kept = torch.unique(predictions.example_Q)
    return Examples(*(column[kept] for column in examples))
