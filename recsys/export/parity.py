"""Does the exported encoder give what torch gives? On real histories, through the encoder that scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.config.base import Config
from recsys.errors import Refused
from recsys.export.histories import UserHistories
from recsys.export.onnx_file import forget_files, record_file
from recsys.models.sequential import gaps_between
from recsys.records import (
    ENCODER_FILE,
    PARITY_FILE,
    ModelManifest,
    verify_model,
    write_atomically,
)
from recsys.scoring.encoder import UserEncoder
from recsys.scoring.plain import BLOCK_CELLS
from recsys.training.model_folder import load_model
from recsys.training.validation import top_k

# Shape suffixes in this file:
#   U users   H places   D embedding width   I items
TOP = 10
USERS_PER_BATCH = 256
TIE = 1e-5
"""Scores nearer than this share of a user's largest score are equal: their order is rounding."""


class ParityReport(Config):
    """What was compared and the worst that was found."""

    users: int
    max_relative_difference: float
    """Largest difference of an element, over the largest element of the same user's vector."""
    worst_user: str
    different_top_10: int
    """Users whose top 10 differs beyond ties."""
    first_different_user: str = ""
    onnx_sha256: str


def parity(folder: Path, histories: UserHistories) -> ParityReport:
    """Compare torch with ONNX Runtime on these histories.

    Raises:
        CorruptArtifact: a file of the model is not what its manifest says.
    """
    manifest = verify_model(folder)
    model, _ = load_model(folder)
    encoder = UserEncoder(folder / ENCODER_FILE, manifest.history_length, manifest.embedding_dim)
    items_ID = model.items.weight.detach().numpy()
    worst, worst_user, different = -1.0, "", []
    for start in range(0, len(histories), USERS_PER_BATCH):
        part = histories.slice(start, start + USERS_PER_BATCH)
        nums_UH = torch.from_numpy(part.item_nums_UH.astype(np.int64))
        mask_UH = (nums_UH != 0).float()
        gaps_UH = gaps_between(torch.from_numpy(part.ages_days_UH), mask_UH)
        with torch.no_grad():
            torch_UD = model.user_vectors(nums_UH, gaps_UH).numpy()
        onnx_UD = encoder.encode(items_ID, part.item_nums_UH, gaps_UH.numpy())
        largest_U = np.maximum(np.abs(torch_UD).max(axis=1), np.finfo(np.float32).tiny)
        relative_U = np.abs(torch_UD - onnx_UD).max(axis=1) / largest_U
        relative_U = np.where(np.isfinite(relative_U), relative_U, np.inf)
        if relative_U.max() > worst:
            worst, worst_user = float(relative_U.max()), part.user_ids[int(relative_U.argmax())]
        different += [part.user_ids[u] for u in different_top(torch_UD, onnx_UD, items_ID)]
    return ParityReport(
        users=len(histories),
        max_relative_difference=worst,
        worst_user=worst_user,
        different_top_10=len(different),
        first_different_user=different[0] if different else "",
        onnx_sha256=manifest.files[ENCODER_FILE],
    )


def different_top(
    torch_UD: NDArray[np.float32], onnx_UD: NDArray[np.float32], items_ID: NDArray[np.float32]
) -> list[int]:
    """Users for whom an item of the ONNX top 10 is not as good, by torch's scores, as torch's own at that rank."""
    block_users = max(1, BLOCK_CELLS // len(items_ID))
    blocks = [slice(start, start + block_users) for start in range(0, len(torch_UD), block_users)]
    different = [_different_top(torch_UD[block], onnx_UD[block], items_ID) for block in blocks]
    return [int(user) for user in np.flatnonzero(np.concatenate([[], *different]))]


def _different_top(
    torch_UD: NDArray[np.float32], onnx_UD: NDArray[np.float32], items_ID: NDArray[np.float32]
) -> NDArray[np.bool_]:
    ours_UI = torch_UD @ items_ID[1:].T
    theirs_UI = onnx_UD @ items_ID[1:].T
    best_Uk = _scores_of_top(ours_UI, by_UI=ours_UI)
    picked_Uk = _scores_of_top(ours_UI, by_UI=theirs_UI)
    allowed_U1 = TIE * np.abs(ours_UI).max(axis=1, keepdims=True)
    different_U: NDArray[np.bool_] = (np.abs(best_Uk - picked_Uk) > allowed_U1).any(axis=1)
    return different_U


def _scores_of_top(
    scores_UI: NDArray[np.float32], *, by_UI: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The scores of each user's top 10 by ``by_UI``, in that order."""
    return np.take_along_axis(scores_UI, top_k(torch.from_numpy(by_UI), TOP).numpy(), axis=1)


def check_parity(
    folder: Path, histories: UserHistories, *, max_relative_difference: float
) -> ParityReport:
    """As ``parity``; the report goes into the model's folder, and a difference stops the release.

    The manifest names the report last, and only where it proves parity: that lets the model be released.

    Raises:
        Refused: a vector differs by more than allowed, or a top 10 beyond ties.
    """
    forget_files(folder, ModelManifest.read(folder), PARITY_FILE)
    report = parity(folder, histories)
    write_atomically(folder / PARITY_FILE, report.model_dump_json(indent=1).encode())
    problems = []
    if report.users == 0:
        problems.append("no user to compare on")
    if not report.max_relative_difference <= max_relative_difference:
        problems.append(
            f"relative difference {report.max_relative_difference:.2g} for user {report.worst_user!r}, "
            f"allowed {max_relative_difference:.2g}"
        )
    if report.different_top_10:
        problems.append(
            f"{report.different_top_10} of {report.users} users get another top 10, the first of them "
            f"{report.first_different_user!r}"
        )
    if problems:
        raise Refused(
            f"model {folder.name}: ONNX does not give what torch gives: {'; '.join(problems)}. "
            f"Nothing is released with it; see {folder / PARITY_FILE}"
        )
    record_file(folder, verify_model(folder), PARITY_FILE)
    return report
