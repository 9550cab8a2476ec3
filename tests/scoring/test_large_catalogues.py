"""What a worker keeps does not grow with catalogue times segments, nor is the catalogue copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.scoring import kit as kits
from recsys.scoring import parts
from recsys.scoring.bundle import open_bundle
from tests.scoring.worlds import kit_of, model_folder

VECTORS = np.array([[0, 0], [1, 2], [3, 4], [0, -1], [-6, 8], [2, 2]], dtype=np.float32)


@pytest.mark.parametrize("block", [1, 2, 5, 100])
def test_statistics_are_those_of_all_items_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    bundle = open_bundle(model_folder(tmp_path, VECTORS, version="m"))
    monkeypatch.setattr(parts, "BLOCK", block)

    found = parts.ItemStatistics.of(bundle)

    items = VECTORS[1:].astype(np.float64)
    np.testing.assert_allclose(found.mean_D, items.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        found.covariance_DD, np.cov(items.T, bias=True), rtol=1e-12, atol=1e-12
    )
    assert found.largest_norm == 10


def test_popularity_of_segments_is_forgotten_where_it_outgrows_its_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buyers = [[1000, 500], [0, 1], [0, 1000], [10, 0]]
    roomy, tight = kit_of(2, buyers=buyers), kit_of(2, buyers=buyers)
    wanted = [roomy.popularity(segment).tolist() for segment in range(4)]

    monkeypatch.setattr(kits, "MOST_BYTES", 2 * 8 * tight.width)

    for _ in range(2):
        assert [tight.popularity(segment).tolist() for segment in range(4)] == wanted
        assert len(tight._popularity) <= 2
    assert len(roomy._popularity) == 4
