"""Checkpoints that survive kill -9: a new folder each, written by all ranks, fsynced, a manifest last.

Only what a manifest names, with sizes and checksums that verify, exists. Rows of embedding tables are raw npy files,
one for each rank that held some; dense arrays are an npz file; nothing is unpickled.
"""

from __future__ import annotations

from recsys.training.checkpoint.arrays import (
    Arrays,
    load_model,
    load_optimizer,
    model_arrays,
    optimizer_arrays,
    read_arrays,
    size_and_sha256,
    write_arrays,
)
from recsys.training.checkpoint.manifest import Facts, Manifest, best_epoch
from recsys.training.checkpoint.pruning import prune, remove
from recsys.training.checkpoint.reading import Checkpoint
from recsys.training.checkpoint.saving import Saver
from recsys.training.checkpoint.search import Search, newest

__all__ = [
    "Arrays",
    "Checkpoint",
    "Facts",
    "Manifest",
    "Saver",
    "Search",
    "best_epoch",
    "load_model",
    "load_optimizer",
    "model_arrays",
    "newest",
    "optimizer_arrays",
    "prune",
    "read_arrays",
    "remove",
    "size_and_sha256",
    "write_arrays",
]
