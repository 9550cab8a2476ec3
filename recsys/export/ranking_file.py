"""The ranking tower as ONNX, and the proof that it gives what torch gives. Vectors in, never item numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch

from recsys.config.base import Config
from recsys.errors import ContractError, Refused
from recsys.export.onnx_file import OPSET, forget_the_machine, quiet_exporter
from recsys.models.ranking import RankingTower
from recsys.models.ranking_fields import CANDIDATE_FIELDS, USER_FIELDS
from recsys.records import sha256_of, write_atomically
from recsys.scoring.ranker import INPUTS, OUTPUT, Ranker
from recsys.scoring.ranking_inputs import RankingInputs

INPUT_CONTRACT = {
    "user_vectors": f"float32 (B, {len(USER_FIELDS)}, D): rows of {', '.join(USER_FIELDS)}; zeros where unknown",
    "candidate_vectors": f"float32 (B, M, {len(CANDIDATE_FIELDS)}, D): rows of {', '.join(CANDIDATE_FIELDS)}",
    "candidate_numbers": "float32 (B, M, 1): log1p of how often training saw the item taken",
    "logits": "float32 (B, M): 1 / (1 + exp(-logit)) is a probability",
}


class RankingParity(Config):
    """What was compared, and the worst that was found."""

    users: int
    candidates: int
    max_difference: float
    """Largest difference of a logit, over the largest logit of the same user, or over 1."""
    onnx_sha256: str


def export_tower(tower: RankingTower, path: Path, facts: Mapping[str, str]) -> None:
    """Write the tower, as it is without dropout, with ``facts`` (model_version, as_of …) beside its contract.

    Raises:
        ContractError: the graph is not what scoring expects.
    """
    model = _graph(tower)
    onnx.helper.set_model_props(model, {**facts, **INPUT_CONTRACT})
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString(deterministic=True))


def check_ranking_parity(
    tower: RankingTower, path: Path, batches: Iterable[RankingInputs], *, max_difference: float
) -> RankingParity:
    """Compare torch with ONNX Runtime, through the class that scores.

    Raises:
        Refused: they differ by more than ``max_difference``.
    """
    ranker, users, candidates, worst = Ranker(path), 0, 0, 0.0
    tower = tower.eval()
    for inputs in batches:
        with torch.no_grad():
            torch_BM = tower(*(torch.from_numpy(array) for array in inputs)).numpy()
        onnx_BM = ranker.logits(inputs)
        largest_B1 = np.abs(torch_BM).max(axis=1, keepdims=True, initial=1.0)
        difference_BM = np.abs(torch_BM - onnx_BM) / largest_B1
        worst = max(worst, float(np.nan_to_num(difference_BM, nan=np.inf).max(initial=0.0)))
        users, candidates = users + len(onnx_BM), candidates + onnx_BM.size
    report = RankingParity(
        users=users, candidates=candidates, max_difference=worst, onnx_sha256=sha256_of(path)
    )
    if not users or worst > max_difference:
        raise Refused(
            f"{path}: ONNX does not give what torch gives: difference {worst:.3g} over {users} users, allowed "
            f"{max_difference:g}; the model is not published; run export_onnx again, or train again"
        )
    return report


def _graph(tower: RankingTower) -> onnx.ModelProto:
    """B and M dynamic, nothing outside the file."""
    width = tower.embedding_dim
    example = (
        torch.randn(2, len(USER_FIELDS), width),
        torch.randn(2, 3, len(CANDIDATE_FIELDS), width),
        torch.rand(2, 3, 1),
    )
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    candidates = torch.export.Dim("candidates", min=1, max=1 << 20)
    was_training = tower.training
    tower.eval()
    try:
        with quiet_exporter():
            program = torch.onnx.export(
                tower,
                example,
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamo=True,
                dynamic_shapes=({0: batch}, {0: batch, 1: candidates}, {0: batch, 1: candidates}),
                opset_version=OPSET,
                external_data=False,
                optimize=False,
                verbose=False,
            )
    finally:
        tower.train(was_training)
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    forget_the_machine(model)
    _check_graph(model, width)
    return model


def _check_graph(model: onnx.ModelProto, width: int) -> None:
    """Raises ContractError naming what differs from what scoring feeds and reads."""
    wanted = {
        "user_vectors": ["batch", len(USER_FIELDS), width],
        "candidate_vectors": ["batch", "candidates", len(CANDIDATE_FIELDS), width],
        "candidate_numbers": ["batch", "candidates", 1],
        OUTPUT: ["batch", "candidates"],
    }
    found = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    if found != wanted:
        raise ContractError(f"the exported graph takes and gives {found}, expected {wanted}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ContractError("the exported graph keeps weights outside its file")
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if opsets.get("") != OPSET or set(opsets) - {"", "pkg.onnxscript.torch_lib.common"}:
        raise ContractError(
            f"the exported graph needs operators {opsets}, expected the standard ones at {OPSET}"
        )
