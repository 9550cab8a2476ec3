"""The exported user encoder under ONNX Runtime: one thread, fixed-size calls.

Shape suffixes: B users in the batch, H history slots, D embedding width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import CorruptArtifact
from recsys.records import ENCODER_INPUTS, ENCODER_OUTPUT
from recsys.scoring.onnx_session import open_session

ROWS_PER_CALL = 256
"""Every call has this many rows, the last one padded: kernels choose their summation by shape, so a
user's vector would otherwise depend in its last bits on who else is in the batch."""


class UserEncoder:
    """``model.onnx``: history_vectors (B,H,D), history_gaps (B,H), history_mask (B,H) -> user_vectors (B,D)."""

    def __init__(self, path: Path, history_length: int, embedding_dim: int) -> None:
        """Open the session.

        Raises:
            CorruptArtifact: the file is no ONNX model, or has other inputs and outputs.
        """
        self._session = open_session(path, ENCODER_INPUTS, ENCODER_OUTPUT)
        self.path = path
        self.history_length = history_length
        self.embedding_dim = embedding_dim

    def encode(
        self,
        item_vectors: NDArray[np.float32],
        item_nums_BH: NDArray[np.int32],
        gaps_BH: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """User vectors (B, D); a row of zeros for a user without any known item.

        ``item_nums_BH`` is left-padded with 0 and newest last; every number is a row of ``item_vectors``.

        Raises:
            CorruptArtifact: the model gave NaN or infinity for a real history.
        """
        users = len(item_nums_BH)
        out = np.zeros((users, self.embedding_dim), dtype=np.float32)
        nums = np.zeros((ROWS_PER_CALL, self.history_length), dtype=np.int32)
        gaps = np.zeros((ROWS_PER_CALL, self.history_length), dtype=np.float32)
        for start in range(0, users, ROWS_PER_CALL):
            rows = min(ROWS_PER_CALL, users - start)
            nums[:rows], nums[rows:] = item_nums_BH[start : start + rows], 0
            gaps[:rows], gaps[rows:] = gaps_BH[start : start + rows], 0
            feeds = {
                "history_vectors": item_vectors[nums],
                "history_gaps": gaps,
                "history_mask": (nums != 0).astype(np.float32),
            }
            out[start : start + rows] = self._session.run([ENCODER_OUTPUT], feeds)[0][:rows]
        known = (item_nums_BH != 0).any(axis=1)
        out[~known] = 0
        if not np.isfinite(out).all():
            bad = int((~np.isfinite(out).all(axis=1)).sum())
            raise CorruptArtifact(
                f"{self.path} gives NaN or infinity for {bad} of {users} users with a history: "
                "do not publish this model; train again"
            )
        return out
