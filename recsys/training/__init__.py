"""The loop, its checkpoints, how it is launched and tracked, and the models that come of it.

Nothing is imported here: a training process takes ``worker`` alone, without Spark and MLflow.
"""

from __future__ import annotations
