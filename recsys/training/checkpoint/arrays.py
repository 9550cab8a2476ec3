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
    """Parameters and buffers under their names, in their shapes; views where they lie on the CPU."""
    return {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}


def optimizer_arrays(optimizer: Optimizer) -> Arrays:
    """NUMBER.NAME -> an entry of the state of the parameter of that number, of its shape or a single number.

    Learning rates are functions of the step and not here.
    """
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value).detach().cpu().numpy()
        for number, values in state.items()
        for name, value in values.items()
    }


def load_optimizer(optimizer: Optimizer, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Replace the state by what ``optimizer_arrays`` gave; rates and the like stay.

    Raises:
        ValueError: a key has no number, or the number is of no parameter.
    """
    num_parameters = sum(len(group["params"]) for group in optimizer.param_groups)
    state: dict[int, dict[str, Any]] = {}
    for key, value in arrays.items():
        number, _, name = key.partition(".")
        if int(number) >= num_parameters:
            raise ValueError(f"state of parameter {number}; there are {num_parameters}")
        state.setdefault(int(number), {})[name] = torch.from_numpy(np.array(value))
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def load_model(model: nn.Module, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Replace every parameter and buffer by what ``model_arrays`` gave.

    Raises:
        RuntimeError: a name is missing or not the model's, or an array has another shape.
    """
    model.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    )


def read_arrays(path: Path) -> Arrays:
    """Every array of an npz file under its name.

    Raises:
        OSError: the file is not there.
        ValueError, zipfile.BadZipFile: an array holds objects, or the file is no npz file.
    """
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
    """Bytes, and 64 hex digits."""
    return path.stat().st_size, sha256_of(path)
