"""Small checkpoints of one or several ranks, which are threads here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.embeddings import Comm, LocalComm
from recsys.training.checkpoint import Checkpoint, Facts, Saver, Search
from tests.embeddings.rank_threads import run_ranks

Tables = Mapping[str, Mapping[str, NDArray[Any]]]
T = TypeVar("T")

DENSE = {"model.w": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer.0.step": np.array(4.0)}


def tables(seed: int = 0, rows: int = 7, dim: int = 3) -> Tables:
    """One that is spread over the ranks, with row-wise Adagrad; one that each rank has whole, with Adam."""
    draw = np.random.default_rng(seed)

    def drawn(*shape: int) -> NDArray[Any]:
        return draw.random(shape, dtype=np.float32)

    return {
        "item": {"weight": drawn(rows, dim), "sum": drawn(rows)},
        "weekday": {"weight": drawn(3, 2), "mean": drawn(3, 2), "square": drawn(3, 2)},
    }


def spread_over(size: int) -> dict[str, int]:
    return {"item": size, "weekday": 1}


def share(whole: Tables, rank: int, size: int) -> dict[str, dict[str, Tensor]]:
    """What one rank holds."""
    return {
        table: {
            name: torch.tensor(values[rank % of :: of] if of > 1 else values)
            for name, values in arrays.items()
        }
        for (table, arrays), of in zip(whole.items(), spread_over(size).values(), strict=True)
    }


def facts(
    epoch: int, epoch_step: int = 0, *, size: int = 1, key: str = "k",
    validation: tuple[float, ...] = (),
) -> Facts:  # fmt: skip
    return Facts(
        key=key, epoch=epoch, epoch_step=epoch_step, step=100 * epoch + epoch_step, world_size=size,
        validation=validation, seed=17, position={"legs": [1, 2]},
    )  # fmt: skip


def begin(saver: Saver, comm: Comm, what: Facts, whole: Tables) -> None:
    held = share(whole, comm.rank, comm.size)
    saver.begin(what, DENSE, held, spread_over(comm.size), embedding_step=what.step)


def save(
    folder: Path, epoch: int, epoch_step: int = 0, *, size: int = 1, key: str = "k",
    whole: Tables | None = None, background: bool = True, validation: tuple[float, ...] = (),
) -> Path:  # fmt: skip
    """One checkpoint, written by ``size`` ranks; its tables are drawn from its place unless given."""

    def of_rank(comm: Comm) -> Path:
        saver = Saver(folder, comm, background=background)
        content = tables(seed=1000 * epoch + epoch_step) if whole is None else whole
        begin(
            saver,
            comm,
            facts(epoch, epoch_step, size=size, key=key, validation=validation),
            content,
        )
        return saver.commit()

    return run_ranks(size, of_rank)[0]


def end_of(folder: Path, epoch: int, *, key: str = "k") -> Checkpoint | None:
    """The newest of an epoch's end that verifies."""
    return Search(folder, key, LocalComm()).end_of(epoch, ())
