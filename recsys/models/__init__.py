"""Torch modules and losses: no I/O, no device choice, no Horovod."""

from __future__ import annotations

from recsys.models.losses import sampled_softmax_loss
from recsys.models.places import Predictions, prediction_places
from recsys.models.sequential import SequentialEncoder, SequentialModel, gaps_between

__all__ = [
    "Predictions",
    "SequentialEncoder",
    "SequentialModel",
    "gaps_between",
    "prediction_places",
    "sampled_softmax_loss",
]
