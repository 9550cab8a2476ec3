"""Torch modules and losses: no I/O, no device choice, no Horovod.

A name is loaded when it is asked for: Spark's workers take ``ranking_fields`` alone, without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.models.losses import sampled_softmax_loss
    from recsys.models.places import Predictions, prediction_places
    from recsys.models.sequential import (
        INITIAL_NORM,
        SequentialEncoder,
        SequentialModel,
        gaps_between,
    )

_HOMES = {
    "INITIAL_NORM": "sequential",
    "Predictions": "places",
    "SequentialEncoder": "sequential",
    "SequentialModel": "sequential",
    "gaps_between": "sequential",
    "prediction_places": "places",
    "sampled_softmax_loss": "losses",
}

__all__ = [
    "INITIAL_NORM",
    "Predictions",
    "SequentialEncoder",
    "SequentialModel",
    "gaps_between",
    "prediction_places",
    "sampled_softmax_loss",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
