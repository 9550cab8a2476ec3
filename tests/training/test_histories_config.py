"""Settings of a network over histories."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from recsys.models.packed import ByteDropout
from recsys.training.histories_config import HistoriesConfig


@pytest.mark.parametrize(("num_processes", "rows"), [(1, 20), (2, 20), (3, 18), (16, 16), (32, 32)])
def test_every_process_takes_as_many_rows(num_processes: int, rows: int) -> None:
    assert HistoriesConfig().rounded_batch_size(num_processes) == rows


def test_dropout_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="dropout"):
        HistoriesConfig(dropout=0.999)


def test_the_greatest_dropout_leaves_as_much_in_the_mean() -> None:
    torch.manual_seed(1)
    dropout = ByteDropout(HistoriesConfig(dropout=0.99).dropout)

    left = dropout(torch.ones(200_000))

    assert left.mean().item() == pytest.approx(1.0, abs=0.1)
    assert (left > 0).float().mean().item() == pytest.approx(3 / 256, rel=0.1)
