"""Fresh rows are nearly normal, and the same whoever asks for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys.embeddings import EmbeddingTable, Sgd
from recsys.embeddings.tables import nearly_normal
from tests.embeddings.sharded_contract import fresh_rows


def test_a_fresh_row_is_the_same_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.embeddings.tables.BLOCK_VALUES", 8)
    table = EmbeddingTable("item", 11, 2, Sgd(0.1))
    all_rows = fresh_rows(table, (1, 2), slice(0, None, 1), torch.float32)
    assert len(torch.unique(all_rows)) == 22
    for size in (2, 3, 5):
        for rank in range(size):
            mine = fresh_rows(table, (1, 2), slice(rank, None, size), torch.float32)
            assert torch.equal(mine, all_rows[rank::size])


def test_a_fresh_row_has_the_same_bits_on_every_machine() -> None:
    table = EmbeddingTable("item", 3, 2, Sgd(0.1), initial_std=1.0)
    rows = fresh_rows(table, (1, 2), slice(0, None, 1), torch.float32)
    assert [value.hex() for value in rows.flatten().tolist()] == [
        "0x1.3d73d20000000p+0", "-0x1.27508e0000000p-2", "0x1.38f5be0000000p-4",
        "0x1.1975500000000p-6", "0x1.d7b6940000000p-3", "-0x1.5e86160000000p-3",
    ]  # fmt: skip


def test_fresh_values_are_nearly_normal_and_do_not_depend_on_their_neighbours() -> None:
    values = nearly_normal(np.arange(20_000, dtype=np.uint64), 16, np.uint64(3)).astype(np.float64)
    error = values.size**-0.5
    assert abs(values.mean()) < 4 * error
    assert values.std() == pytest.approx(1, abs=4 * error)
    assert 3.2 < np.abs(values).max() <= 2 * 3**0.5 + 1e-6
    within = [(np.abs(values) < limit).mean() for limit in (0.5, 1, 2)]
    assert within == pytest.approx([0.383, 0.683, 0.954], abs=0.02), "as a normal variable's"
    other = nearly_normal(np.arange(20_000, dtype=np.uint64), 16, np.uint64(4)).astype(np.float64)
    for neighbours in (values[:, 1:] * values[:, :-1], values[1:] * values[:-1], values * other):
        assert abs(neighbours.mean()) < 4 * error
