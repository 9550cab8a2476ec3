"""Materialised training examples as torch batches: through petastorm, decoded without per-row Python."""

from __future__ import annotations

from recsys.data.batches import Batch, draw_negatives, epoch_batches, generator, num_steps
from recsys.data.examples import Examples, read_examples
from recsys.data.files import ExampleFile, example_files

__all__ = [
    "Batch",
    "ExampleFile",
    "Examples",
    "draw_negatives",
    "epoch_batches",
    "example_files",
    "generator",
    "num_steps",
    "read_examples",
]
