"""The loop, its checkpoints, how it is launched and tracked, and the models that come of it."""

from __future__ import annotations

from recsys.training.launch import TrainingFailed
from recsys.training.model_folder import load_model
from recsys.training.train import not_trained, train_models

__all__ = ["TrainingFailed", "load_model", "not_trained", "train_models"]
