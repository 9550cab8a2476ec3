"""A ranking model made by hand: the logit of an item is a number that the test gives it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from recsys.config.ranking import RankingConfig
from recsys.export.ranking_file import export_tower
from recsys.models.ranking import RankingTower
from recsys.models.ranking_fields import FIELDS, Attributes
from recsys.records import PARITY_FILE, RankingManifest
from recsys.training.checkpoint import model_arrays, write_arrays
from recsys.training.ranking import tower_of
from tests.scoring.worlds import AS_OF

CONFIG = RankingConfig(
    enabled=True, interaction="linear", embedding_dim=2, history_bag=3, cross_rows=8
)


def first_of_item() -> RankingTower:
    """The logit is the first number of the item's row."""
    tower = tower_of(CONFIG)
    with torch.no_grad():
        tower.first_order.bias.zero_()
        tower.first_order.weight.zero_()
        tower.first_order.weight[0, FIELDS.index("item") * CONFIG.embedding_dim] = 1.0
    return tower.eval()


@lru_cache
def tower_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ranking.onnx"
        export_tower(first_of_item(), path, {})
        return path.read_bytes()


def attributes_of(num_items: int, num_users: int) -> Attributes:
    return Attributes(
        segment_num_U=np.zeros(num_users + 1, np.int32),
        category_num_I=np.zeros(num_items + 1, np.int32),
        price_bucket_I=np.zeros(num_items + 1, np.int32),
        item_count_I=np.arange(num_items + 1),
        segments=("north",),
        categories=("cups",),
        price_edges=np.zeros(0),
    )


def ranking_folder(
    models: Path, logits: Sequence[float], *, version: str = "ranks", num_users: int = 9,
    as_of: date = AS_OF, exported: bool = True, proven: bool = True,
    answers: Mapping[str, object] | None = None,
) -> Path:  # fmt: skip
    """A model as training and export leave it; ``logits`` are those of items 1, 2, …, whoever asks.

    Without ``proven`` as evaluate exports the models that it measures: no parity report.
    """
    folder = models / version
    folder.mkdir(parents=True)
    attributes = attributes_of(len(logits), num_users)
    for name, rows in attributes.table_rows(CONFIG.cross_rows).items():
        table = np.zeros((rows, CONFIG.embedding_dim), np.float32)
        if name == "item":
            table[1:, 0] = logits
        np.save(folder / f"{name}.npy", table)
    write_arrays(folder / "attributes.npz", attributes.arrays())
    write_arrays(folder / "weights.npz", model_arrays(first_of_item()))
    if answers is not None:
        write_arrays(folder / "answers.npz", {n: np.array(v) for n, v in answers.items()})
    if exported:
        (folder / "ranking.onnx").write_bytes(tower_file())
    if exported and proven:
        (folder / PARITY_FILE).write_text("{}")
    write_manifest(folder, len(logits), as_of)
    return folder


def write_manifest(folder: Path, num_items: int, as_of: date = AS_OF) -> None:
    """Of the files as they are now."""
    (folder / "manifest.json").unlink(missing_ok=True)
    RankingManifest(
        model_version=folder.name, as_of=as_of, num_items=num_items, epochs=1, history_length=8,
        ranking=CONFIG.model_dump(mode="json"),
        files={p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())},
    ).write(folder)  # fmt: skip
