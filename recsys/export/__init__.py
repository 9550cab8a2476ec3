"""The user encoder and the ranking tower as ONNX, and the proof that they give what torch gives."""

from __future__ import annotations

from recsys.export.histories import (
    UserHistories,
    read_histories,
)
from recsys.export.onnx_file import export_model
from recsys.export.parity import ParityReport, check_parity, parity
from recsys.export.ranking_file import RankingParity, export_ranking, export_release_ranking

__all__ = [
    "ParityReport",
    "RankingParity",
    "UserHistories",
    "check_parity",
    "export_model",
    "export_ranking",
    "export_release_ranking",
    "parity",
    "read_histories",
]
