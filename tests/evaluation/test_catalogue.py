"""What a worker looks up to describe lists."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from recsys.evaluation.catalogue import FIGURES, Catalogue
from recsys.scoring.kit import Kit
from tests.scoring.worlds import kit_of

ALIKE, APART = np.ones((3, 2), np.float32), np.array([[0, 0], [1, 0], [0, 1]], np.float32)


def test_vectors_are_those_of_the_model_that_is_measured_whatever_it_is_called() -> None:
    models: Any = {"0f": SimpleNamespace(item_vectors=ALIKE), "a0": SimpleNamespace(item_vectors=APART)}  # fmt: skip
    kit: Kit = kit_of(2, bundles=models, buyers=[[1.0, 1.0]])
    had: Any = SimpleNamespace(history_offsets=np.array([0, 1]), history_nums=np.array([1]))
    lists_BK = np.array([[1, 2]], np.int32)

    def diversity(version: str) -> float:
        found_BQC = Catalogue.of(kit, 1, version).figures(lists_BK, had, (2,))
        return round(float(found_BQC[0, FIGURES.index("vector_diversity"), 0]), 9)

    assert (diversity("a0"), diversity("0f")) == (1.0, 0.0)
    assert np.isnan(diversity("not loaded"))
