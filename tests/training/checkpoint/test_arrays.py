"""Dense arrays come back bit for bit, and nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recsys.training import checkpoint


def test_model_and_optimizer_come_back_bit_for_bit(tmp_path: Path) -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(1)
        model = nn.Linear(4, 3)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()

    model, optimizer = made()
    step(model, optimizer)
    checkpoint.write_arrays(tmp_path / "m.npz", checkpoint.model_arrays(model))
    checkpoint.write_arrays(tmp_path / "o.npz", checkpoint.optimizer_arrays(optimizer))
    again, again_optimizer = made()
    checkpoint.load_model(again, checkpoint.read_arrays(tmp_path / "m.npz"))
    checkpoint.load_optimizer(again_optimizer, checkpoint.read_arrays(tmp_path / "o.npz"))
    for pair in ((model, optimizer), (again, again_optimizer)):
        step(*pair)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_equal_arrays_give_equal_bytes_and_nothing_is_unpickled(tmp_path: Path) -> None:
    arrays = {"b": np.arange(3), "a": np.zeros(2)}
    checkpoint.write_arrays(tmp_path / "1.npz", arrays)
    checkpoint.write_arrays(tmp_path / "2.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    np.savez(tmp_path / "evil.npz", x=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        checkpoint.read_arrays(tmp_path / "evil.npz")
