"""A ranking model made by hand: the logit of an item is a number that the test gives it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from recsys.config.ranking import RankingConfig
from recsys.export.ranking_file import export_tower
from recsys.models.ranking import RankingTower
from recsys.models.ranking_fields import FIELDS, FIELDS_VERSION, Attributes
from recsys.records import PARITY_FILE, Answers, RankingManifest, sha256_of
from recsys.training.checkpoint import model_arrays, write_arrays
from recsys.training.ranking import tower_of
from tests.scoring.worlds import AS_OF

CONFIG = RankingConfig(
    enabled=True, interaction="linear", embedding_dim=2, history_bag=3, cross_rows=8
)


def first_of_item() -> RankingTower:
    """The logit is the first number of the item's row, and that of the weekday and category, which is mostly 0."""
    tower = tower_of(CONFIG)
    with torch.no_grad():
        tower.first_order.bias.zero_()
        tower.first_order.weight.zero_()
        for field in ("item", "weekday_category"):
            tower.first_order.weight[0, FIELDS.index(field) * CONFIG.embedding_dim] = 1.0
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
        num_events_I=np.arange(num_items + 1),
        is_cut_U=np.zeros(num_users + 1, np.bool_),
        segments=("north",),
        categories=("cups",),
    )


def ranking_folder(
    models: Path, logits: Sequence[float], *, version: str = "ranks", num_users: int = 9,
    as_of: date = AS_OF, exported: bool = True, proven: bool = True,
    odd_on: Mapping[int, float] | None = None, **manifest: object,
) -> Path:  # fmt: skip
    """A model as training and export leave it; ``logits`` are those of items 1, 2, …, whoever asks.

    Without ``proven`` as evaluate exports the models that it measures: no parity report. ``odd_on``: what is added
    for items of odd numbers where a user's newest event was on a weekday, 1 is Monday. ``manifest``: other fields.
    """
    folder = models / version
    folder.mkdir(parents=True)
    attributes = attributes_of(len(logits), num_users)
    if odd_on:
        odd = np.arange(len(logits) + 1, dtype=np.int32) % 2
        attributes = replace(attributes, category_num_I=odd)
    for name, rows in attributes.table_rows(CONFIG.cross_rows).items():
        table = np.zeros((rows, CONFIG.embedding_dim), np.float32)
        if name == "item":
            table[1:, 0] = logits
        if name == "weekday_category":  # of the one category
            for weekday, added in (odd_on or {}).items():
                table[weekday, 0] = added
        np.save(folder / f"{name}.npy", table)
    write_arrays(folder / "attributes.npz", attributes.arrays())
    write_arrays(folder / "weights.npz", model_arrays(first_of_item()))
    if exported:
        (folder / "ranking.onnx").write_bytes(tower_file())
    if exported and proven:
        (folder / PARITY_FILE).write_text("{}")
    write_manifest(folder, len(logits), as_of, **manifest)
    return folder


def write_manifest(folder: Path, num_items: int, as_of: date = AS_OF, **changes: object) -> None:
    """Of the files as they are now."""
    (folder / "manifest.json").unlink(missing_ok=True)
    manifest = RankingManifest(
        model_version=folder.name, as_of=as_of, num_items=num_items, epochs=1, history_length=8,
        fields_version=FIELDS_VERSION, ranking=CONFIG.model_dump(mode="json"),
        files={p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())},
    )  # fmt: skip
    manifest.model_copy(update=changes).write(folder)


def answers_file(models: Path, run_date: date, role: str, answers: Mapping[str, object]) -> Answers:
    """What a model said of the users of that night, as train leaves it."""
    path = models / Answers.name_of(run_date, role)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, {name: np.array(values) for name, values in answers.items()})
    return Answers(file=path.name, sha256=sha256_of(path), asked="users")
