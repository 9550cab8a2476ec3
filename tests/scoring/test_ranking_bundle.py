"""A ranking model's folder is checked before it re-ranks; what is damaged is named."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import CorruptArtifact, MissingInput
from recsys.export.ranking_file import trained_tower
from recsys.models.ranking_fields import FIELDS_VERSION
from recsys.scoring.kit import open_kit, save_kit
from recsys.scoring.ranking_bundle import checked_ranking, open_ranking
from tests.scoring.ranking_worlds import ranking_folder, write_manifest
from tests.scoring.worlds import kit_of


def test_a_kit_carries_its_ranking_models(tmp_path: Path) -> None:
    kit, folder = kit_of(3), ranking_folder(tmp_path / "models", [3, 1, 2])

    again = open_kit(str(save_kit(kit, {}, tmp_path, rankings={"ranks": folder})))

    bundle = again.rankings["ranks"]
    assert again.as_of == date(2024, 6, 1)
    assert bundle.tables["item"][:, 0].tolist() == [0, 3, 1, 2]
    assert isinstance(bundle.tables["item"], np.memmap)
    assert bundle.config.history_bag == 3
    assert not (save_kit(kit, {}, tmp_path) / "rankings").exists()


def test_a_model_that_was_not_exported_names_the_steps(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"has no ranking\.onnx: run evaluate and export_onnx"):
        open_ranking(ranking_folder(tmp_path, [1, 2], exported=False))
    with pytest.raises(MissingInput, match=r"no model at .*gone: run train first"):
        open_ranking(tmp_path / "gone")


def test_a_flipped_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    folder = ranking_folder(tmp_path, [1, 2])
    content = bytearray((folder / "history.npy").read_bytes())
    content[-1] ^= 1
    (folder / "history.npy").write_bytes(content)

    with pytest.raises(CorruptArtifact, match=r"history\.npy is damaged: sha256"):
        open_ranking(folder)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("item.npy", r"item\.npy does not open .*run train, evaluate and export_onnx again"),
        ("attributes.npz", r"attributes\.npz does not open"),
        ("ranking.onnx", r"ranking\.onnx does not open as an ONNX model"),
        ("manifest.json", r"manifest\.json is damaged"),
    ],
)
def test_a_file_of_another_kind_is_refused_even_unchecked(
    tmp_path: Path, name: str, what: str
) -> None:
    folder = ranking_folder(tmp_path, [1, 2])
    (folder / name).write_bytes(b"not what it was")

    with pytest.raises(CorruptArtifact, match=what):
        open_ranking(folder, check=False)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    folder = ranking_folder(tmp_path, [1, 2])
    np.save(folder / "user.npy", np.zeros((4, 2), np.float32))
    with pytest.raises(
        CorruptArtifact, match=r"user\.npy is float32 \(4, 2\), .*float32 \(10, 2\)"
    ):
        open_ranking(folder, check=False)

    write_manifest(ranking_folder(tmp_path, [1, 2], version="other"), num_items=7)
    with pytest.raises(CorruptArtifact, match=r"attributes\.npz has 2 items, the manifest 7"):
        open_ranking(tmp_path / "other")


def test_a_model_whose_rows_mean_something_else_is_refused_wherever_it_is_opened(
    tmp_path: Path,
) -> None:
    folder = ranking_folder(tmp_path, [1, 2], fields_version=0)
    wanted = (
        rf"ranks has fields of version 0, .* reads version {FIELDS_VERSION}.*run train, .*always"
    )
    for look in (checked_ranking, open_ranking, partial(open_ranking, check=False), trained_tower):
        with pytest.raises(CorruptArtifact, match=wanted):
            look(folder)


def test_a_section_of_another_version_of_the_code_is_named_by_export_as_by_scoring(
    tmp_path: Path,
) -> None:
    folder = ranking_folder(tmp_path, [1, 2], ranking={"interaction": "telepathy"})
    for look in (checked_ranking, trained_tower):
        with pytest.raises(CorruptArtifact, match=r"manifest\.json has a ranking section that"):
            look(folder)
