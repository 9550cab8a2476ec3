"""The gate's model_size: what train wrote, however often a night is evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys.evaluation.model_size import bytes_as_trained
from tests.scoring.ranking_worlds import ranking_folder
from tests.scoring.worlds import model_folder


def test_what_the_export_and_the_evaluation_add_does_not_count(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, np.ones((4, 2)), version="a")  # with model.onnx and parity.json
    (folder / "model_card.md").write_text("# Model a\n")

    assert bytes_as_trained(tmp_path, "a") == (folder / "item_vectors.npy").stat().st_size


def test_the_ranking_model_counts_with_its_tables(tmp_path: Path) -> None:
    model_folder(tmp_path, np.ones((4, 2)), version="a")
    alone = bytes_as_trained(tmp_path, "a")
    exported = ranking_folder(tmp_path, [1.0, 2.0], version="exported")
    ranking_folder(tmp_path, [1.0, 2.0], version="as_trained", exported=False)

    assert (exported / "ranking.onnx").exists()
    both = bytes_as_trained(tmp_path, "a", "exported")
    assert both == bytes_as_trained(tmp_path, "a", "as_trained") > alone


def test_a_model_that_is_not_whole_has_no_size(tmp_path: Path) -> None:
    assert bytes_as_trained(tmp_path, "nowhere") == 0
    folder = model_folder(tmp_path, np.ones((4, 2)), version="a")
    assert bytes_as_trained(tmp_path, "a", "nowhere") == 0
    (folder / "item_vectors.npy").unlink()
    assert bytes_as_trained(tmp_path, "a") == 0
