"""Small worlds for scoring: an encoder made by hand, a kit of literal arrays, users as lists."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
from hypothesis import strategies as st
from onnx import TensorProto, helper
from scipy.sparse import csr_array

from recsys.candidates.reorders import Reorders
from recsys.records import PARITY_FILE, ModelManifest
from recsys.scoring.kit import Kit
from recsys.scoring.users import UserBatch

AS_OF = date(2024, 6, 1)

max_per = st.lists(
    st.tuples(st.sampled_from(["category", "brand"]), st.integers(1, 2)),
    max_size=2,
    unique_by=lambda limit: limit[0],
).map(tuple)
"""List rules for ``kit_of``'s groups."""


def mean_encoder(path: Path, history_length: int, dim: int) -> None:
    """user_vectors = sum of the history's vectors / number of real places (0 / 0 is NaN, as a softmax gives)."""
    shapes: dict[str, list[str | int | None]] = {
        "history_vectors": ["B", history_length, dim],
        "history_gaps": ["B", history_length],
        "history_mask": ["B", history_length],
    }
    nodes = [
        helper.make_node("Unsqueeze", ["history_mask", "last"], ["mask_BH1"]),
        helper.make_node("Mul", ["history_vectors", "mask_BH1"], ["masked_BHD"]),
        helper.make_node("ReduceSum", ["masked_BHD", "middle"], ["sum_BD"], keepdims=0),
        helper.make_node("ReduceSum", ["mask_BH1", "middle"], ["count_B1"], keepdims=0),
        helper.make_node("Mul", ["history_gaps", "zero"], ["no_gaps"]),
        helper.make_node("ReduceSum", ["no_gaps", "middle"], ["nothing_B1"], keepdims=1),
        helper.make_node("Div", ["sum_BD", "count_B1"], ["mean_BD"]),
        helper.make_node("Add", ["mean_BD", "nothing_B1"], ["user_vectors"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [helper.make_tensor_value_info("user_vectors", TensorProto.FLOAT, ["B", dim])],
        [
            helper.make_tensor("last", TensorProto.INT64, [1], [2]),
            helper.make_tensor("middle", TensorProto.INT64, [1], [1]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def model_folder(
    models: Path, item_vectors: np.ndarray[Any, Any], *, version: str = "hand-made", history_length: int = 8,
    as_of: date = AS_OF, proven: bool = True,
) -> Path:  # fmt: skip
    """A model as training and export leave it; ``item_vectors`` has the padding row.

    Without ``proven`` as evaluate exports the models that it measures: no parity report.
    """
    folder = models / version
    folder.mkdir(parents=True)
    np.save(folder / "item_vectors.npy", item_vectors.astype(np.float32))
    mean_encoder(folder / "model.onnx", history_length, item_vectors.shape[1])
    if proven:
        (folder / PARITY_FILE).write_text("{}")
    manifest = ModelManifest(
        model_version=version, as_of=as_of, embedding_dim=item_vectors.shape[1],
        history_length=history_length, num_items=len(item_vectors) - 1, epochs=1,
        files={
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())
        },
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder


def kit_of(
    num_items: int,
    *,
    similarity: Sequence[tuple[int, int, float]] = (),
    transitions: Sequence[tuple[int, int, float]] = (),
    buyers: Sequence[Sequence[float]] = (),
    hidden: Sequence[int] = (),
    categories: Sequence[int] = (),
    brands: Sequence[int] = (),
    **others: Any,
) -> Kit:
    """A kit of items 1 to ``num_items``; pairs are (history item, other item, score)."""
    allowed = np.ones(num_items + 1, dtype=bool)
    allowed[[0, *hidden]] = False
    rows = [[0.0, *row] for row in buyers] or [[0.0] * (num_items + 1)]
    return Kit(
        as_of=AS_OF,
        item_ids=pa.array(["", *(f"item-{num}" for num in range(1, num_items + 1))]),
        allowed=allowed,
        groups={
            name: np.array([-1, *(groups or [-1] * num_items)], dtype=np.int32)
            for name, groups in (("category", categories), ("brand", brands))
        },
        buyers=csr_array(np.array(rows)),
        segments=("", *(f"segment-{s}" for s in range(1, len(rows)))),
        similarity=_matrix(similarity, num_items),
        transitions=_matrix(transitions, num_items),
        **others,
    )


def reorders_of(num_items: int, seed: int = 0) -> Reorders:
    """Intervals of items 1 to ``num_items``, days to months."""
    rng = np.random.default_rng(seed)
    found = Reorders(
        rng.uniform(0, 1, num_items + 1), rng.uniform(0, 4, num_items + 1), rng.uniform(0.2, 1.5, num_items + 1)
    )  # fmt: skip
    for values in (found.again, found.log_days, found.spread):
        values[0] = 0.0
    return found


def never_again(num_items: int) -> Reorders:
    """A shop where nobody takes an item again."""
    nothing = np.zeros(num_items + 1)
    return Reorders(nothing, nothing, nothing + 1.0)


def _matrix(pairs: Sequence[tuple[int, int, float]], num_items: int) -> csr_array:
    dense = np.zeros((num_items + 1, num_items + 1))
    for row, column, score in pairs:
        dense[row, column] = score
    return csr_array(dense)


def users_of(
    histories: Sequence[Sequence[int]],
    *,
    seen: Sequence[Sequence[int]] = (),
    hidden: Sequence[Sequence[int]] = (),
    segments: Sequence[int] = (),
    weights: Sequence[Sequence[float]] = (),
    targets: Sequence[Sequence[bool]] = (),
    user_nums: Sequence[int] = (),
) -> UserBatch:
    """Users with these item numbers, oldest first, one day apart; the newest event is one day old.

    The first user has the number 1, and so on.
    """
    nothing: list[list[int]] = [[] for _ in histories]
    seen, hidden = seen or nothing, hidden or nothing
    ages = [float(age) for history in histories for age in range(len(history), 0, -1)]
    flat_weights = [w for row in weights for w in row] if weights else [1.0] * len(ages)
    flat_targets = [t for row in targets for t in row] if targets else [True] * len(ages)
    return UserBatch(
        _offsets(histories), _flat(histories), np.array(ages, np.float32),
        np.array(flat_weights, np.float64), np.array(flat_targets, bool),
        _offsets(seen), _flat(seen), _offsets(hidden), _flat(hidden),
        np.array(segments or [0] * len(histories), np.int32),
        np.array(user_nums or range(1, len(histories) + 1), np.int64),
    )  # fmt: skip


def _offsets(lists: Sequence[Sequence[Any]]) -> np.ndarray[Any, Any]:
    return np.cumsum([0, *(len(values) for values in lists)]).astype(np.int64)


def _flat(lists: Sequence[Sequence[int]]) -> np.ndarray[Any, Any]:
    return np.array([value for values in lists for value in values], dtype=np.int32)
