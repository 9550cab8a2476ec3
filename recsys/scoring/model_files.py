"""Files of a model's folder, opened for scoring; what does not open is named, with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import CorruptArtifact


def open_table(path: Path, wanted: tuple[int, int], *, steps: str) -> NDArray[np.float32]:
    """A float32 npy file of the shape ``wanted``, memory-mapped.

    ``steps``: the jobs that make the folder anew.

    Raises:
        CorruptArtifact: it does not open, or is another array.
    """
    try:
        table: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise CorruptArtifact(
            f"{path} does not open ({str(error)[:200]}): {what_to_do(path.parent, steps)}"
        ) from None
    if table.shape != wanted or table.dtype != np.float32:
        raise CorruptArtifact(
            f"{path} is {table.dtype} {table.shape}, its manifest says float32 {wanted}: "
            + what_to_do(path.parent, steps)
        )
    return table


def what_to_do(folder: Path, steps: str) -> str:
    return (
        f"nothing was written and the live release keeps serving; restore {folder} from a copy, "
        f"or delete the folder and run {steps} again"
    )
