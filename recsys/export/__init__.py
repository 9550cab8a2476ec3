"""The user encoder as ONNX, and the proof that it gives what torch gives."""

from __future__ import annotations

from recsys.export.histories import UserHistories, read_histories
from recsys.export.onnx_file import export_model
from recsys.export.parity import ParityReport, check_parity, parity

__all__ = [
    "ParityReport",
    "UserHistories",
    "check_parity",
    "export_model",
    "parity",
    "read_histories",
]
