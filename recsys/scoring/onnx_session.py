"""Opening an ONNX file for scoring: one thread, nothing reported, and what it takes and gives is checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from recsys.errors import CorruptArtifact

# From 1.29 on the official builds report to their maker unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort


def open_session(path: Path, inputs: Sequence[str], output: str) -> ort.InferenceSession:
    """Raises CorruptArtifact where the file is no ONNX model, or has other inputs and outputs."""
    options = ort.SessionOptions()
    # Spark runs one worker per core; ORT would take the whole box.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ORT raises a family of its own, without a public parent
        raise CorruptArtifact(
            f"{path} does not open as an ONNX model ({str(error)[:200]}): nothing was written and the live "
            "release keeps serving; run export_onnx again, or restore the model's folder from a copy"
        ) from None
    found = tuple(node.name for node in session.get_inputs())
    outputs = tuple(node.name for node in session.get_outputs())
    if set(found) != set(inputs) or outputs != (output,):
        raise CorruptArtifact(
            f"{path} takes {found} and gives {outputs}; scoring wants {tuple(inputs)} -> {output!r}: "
            "run export_onnx again with this version of the code"
        )
    return session
