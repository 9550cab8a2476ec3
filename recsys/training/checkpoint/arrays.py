"""Dense arrays in npz files, read with ``allow_pickle=False``: nothing is unpickled."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim import Optimizer

from recsys.records import sha256_of

Arrays = dict[str, npt.NDArray[Any]]


def model_arrays(model: nn.Module) -> Arrays:
    return {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}


def optimizer_arrays(optimizer: Optimizer) -> Arrays:
    """The state of each parameter by its number; learning rates are functions of the step."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value).detach().cpu().numpy()
        for number, values in state.items()
        for name, value in values.items()
    }


def load_optimizer(optimizer: Optimizer, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in arrays.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = torch.from_numpy(np.array(value))
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def load_model(model: nn.Module, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    model.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    )


def read_arrays(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def packed(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An npz file; the same arrays give the same bytes."""
    file = io.BytesIO()
    np.savez(file, **dict(sorted(arrays.items())))
    return file.getvalue()


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """An npz file, fsynced."""
    with open(path, "wb") as file:
        file.write(packed(arrays))
        file.flush()
        os.fsync(file.fileno())


def size_and_sha256(path: Path) -> tuple[int, str]:
    return path.stat().st_size, sha256_of(path)
