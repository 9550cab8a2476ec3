"""Materialised training examples as torch batches: through petastorm, decoded without per-row Python."""

from __future__ import annotations

from recsys.data.batches import Batch, draw_negatives, generator, num_steps
from recsys.data.examples import Examples, read_examples
from recsys.data.files import ExampleFile, example_files
from recsys.data.position import EpochPosition, Leg, batch_sizes, batch_start
from recsys.data.share_loader import ShareLoader

__all__ = [
    "Batch",
    "EpochPosition",
    "ExampleFile",
    "Examples",
    "Leg",
    "ShareLoader",
    "batch_sizes",
    "batch_start",
    "draw_negatives",
    "example_files",
    "generator",
    "num_steps",
    "read_examples",
]
