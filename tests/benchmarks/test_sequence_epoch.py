"""The benchmark of the sequential model at a tiny size: every condition is measured, and judged by targets.toml."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch

from benchmarks import sequence_epoch


@pytest.fixture
def threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_condition_is_measured_and_judged(
    capsys: pytest.CaptureFixture[str], threads_as_they_were: None
) -> None:
    sequence_epoch.main(["--users", "60", "--items", "120", "--epochs", "1"])
    lines = capsys.readouterr().out.splitlines()
    found = [json.loads(line[7:]) for line in lines if line.startswith("RESULT ")]
    assert {line["case"]: line["wanted"] for line in found} == {
        "padded full softmax in plain torch": 4,
        "peak memory of the loss": 0.2,
        "NDCG after equal epochs": 0.98,
    }


def test_the_generated_shop_has_the_shape_that_it_says() -> None:
    shop = sequence_epoch.generated()
    assert shop.item_nums_UW.shape[0] == 22_363
    assert shop.item_nums_UW.max() <= 12_101
    lengths = (shop.item_nums_UW != 0).sum(axis=1)
    assert lengths.min() == 5
    assert lengths.mean() == pytest.approx(198_502 / 22_363, abs=0.2)
