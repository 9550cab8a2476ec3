"""The best items of each user as torch and ONNX Runtime find them: what stage 1 could have been made of.

Both multiply a block of users with all items and let the library take the best of each row; on two threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.dense import Floats
from benchmarks.limits import THREADS

# Shape suffixes in this file:
#   B users   N items   D embedding width   M places of a list

BLOCK = 256
"""Users at a time: within a fifth of the fastest of 16 to 1,024, of both, at 20k and at 100k items."""
OPSET, IR_VERSION = 17, 8

Found = tuple[Floats, NDArray[np.int64]]
"""Scores and places of the items, [B, M], best first."""


Search = Callable[[Floats, int], Callable[[Floats], Found]]
"""Of the items and the length of a list, what finds the lists of users."""


def in_blocks(best: Callable[[Floats], Found], users_BD: Floats) -> Found:
    parts = [best(users_BD[start : start + BLOCK]) for start in range(0, len(users_BD), BLOCK)]
    scores, places = zip(*parts, strict=True)
    return np.concatenate(scores), np.concatenate(places)


def torch_search(items_ND: Floats, m: int) -> Callable[[Floats], Found]:
    """On the threads that ``benchmarks.limits.two_threads`` gives."""
    items_DN = torch.from_numpy(items_ND).T
    out_BN = torch.empty(BLOCK, len(items_ND))

    def best(users_BD: Floats) -> Found:
        scores_BN = torch.mm(torch.from_numpy(users_BD), items_DN, out=out_BN[: len(users_BD)])
        found = torch.topk(scores_BN, m)
        return found.values.numpy(), found.indices.numpy()

    return lambda users_BD: in_blocks(best, users_BD)


def onnx_search(items_ND: Floats, m: int) -> Callable[[Floats], Found]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = onnxruntime.InferenceSession(
        graph(items_ND, m), options, providers=["CPUExecutionProvider"]
    )

    def best(users_BD: Floats) -> Found:
        scores_BM, places_BM = session.run(None, {"users_BD": users_BD})
        return scores_BM, places_BM

    return lambda users_BD: in_blocks(best, users_BD)


def graph(items_ND: Floats, m: int) -> bytes:
    """MatMul with the items, which are part of it, and TopK."""
    items_DN = numpy_helper.from_array(np.ascontiguousarray(items_ND.T), "items_DN")
    most = numpy_helper.from_array(np.array([m], np.int64), "m")
    made = helper.make_graph(
        [
            helper.make_node("MatMul", ["users_BD", "items_DN"], ["scores_BN"]),
            helper.make_node("TopK", ["scores_BN", "m"], ["scores_BM", "places_BM"]),
        ],
        "top_n",
        [helper.make_tensor_value_info("users_BD", TensorProto.FLOAT, ["B", items_ND.shape[1]])],
        [
            helper.make_tensor_value_info("scores_BM", TensorProto.FLOAT, ["B", m]),
            helper.make_tensor_value_info("places_BM", TensorProto.INT64, ["B", m]),
        ],
        [items_DN, most],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    packed: bytes = model.SerializeToString()
    return packed


OTHERS: Mapping[str, Search] = {
    "torch, mm and topk": torch_search,
    "ONNX Runtime, MatMul and TopK": onnx_search,
}
