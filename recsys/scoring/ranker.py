"""The exported ranking tower under ONNX Runtime: one thread, calls of one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import CorruptArtifact
from recsys.scoring.onnx_session import open_session
from recsys.scoring.ranking_inputs import RankingInputs

# Shape suffixes in this file:
#   B users   M candidates of each
INPUTS = ("user_vectors", "candidate_vectors", "candidate_numbers")
OUTPUT = "logits"
USERS_PER_CALL = 64
"""Every call has this many users, the last one padded: kernels choose their summation by shape, so a logit
would otherwise depend in its last bits on who else is in the batch."""


class Ranker:
    """``ranking.onnx``: the vectors and numbers of ``RankingInputs`` -> logits (B, M)."""

    def __init__(self, path: Path) -> None:
        """Open the session.

        Raises:
            CorruptArtifact: the file is no ONNX model, or has other inputs and outputs.
        """
        self._session = open_session(path, INPUTS, OUTPUT)
        self.path = path

    def logits(self, inputs: RankingInputs) -> NDArray[np.float32]:
        """(B, M). Their order is what counts; the manifest says how a probability is made of one.

        Raises:
            CorruptArtifact: the model gave NaN or infinity.
        """
        out = np.zeros(inputs.candidate_vectors_BMCD.shape[:2], dtype=np.float32)
        users = len(out)
        for start in range(0, users, USERS_PER_CALL):
            rows = min(USERS_PER_CALL, users - start)
            feeds = {
                name: _filled(array[start : start + rows])
                for name, array in zip(INPUTS, inputs, strict=True)
            }
            out[start : start + rows] = self._session.run([OUTPUT], feeds)[0][:rows]
        if not np.isfinite(out).all():
            bad = int((~np.isfinite(out).all(axis=1)).sum())
            raise CorruptArtifact(
                f"{self.path} gives NaN or infinity for {bad} of {users} users: "
                "do not publish this model; train again"
            )
        return out


def _filled(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """``USERS_PER_CALL`` rows, zeros behind the real ones."""
    whole = np.zeros((USERS_PER_CALL, *rows.shape[1:]), dtype=np.float32)
    whole[: len(rows)] = rows
    return whole
