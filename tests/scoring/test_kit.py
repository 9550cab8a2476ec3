from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from recsys.errors import CorruptArtifact, MissingInput
from recsys.scoring.bundle import open_bundle
from recsys.scoring.kit import open_kit, save_kit
from tests.scoring.worlds import kit_of, mean_encoder, model_folder, reorders_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

VECTORS = np.array([[0, 0], [1, 2], [3, 4]], dtype=np.float32)


def a_kit() -> Any:
    return kit_of(
        3, similarity=[(1, 2, 0.5)], buyers=[[1, 2, 3], [0, 0, 9]], hidden=[2], categories=[0, 0, 1]
    )


def test_masks_of_segments_are_carried_too(tmp_path: Path) -> None:
    masks = np.array([[False, True, False, True], [False, False, False, True]])
    kit = replace(a_kit(), segment_allowed=masks)

    folder = save_kit(kit, {}, tmp_path)

    again = open_kit(str(folder))
    assert [again.allowed_in(segment).tolist() for segment in (0, 1)] == masks.tolist()
    assert folder != save_kit(a_kit(), {}, tmp_path)


def test_a_kit_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    kit = replace(a_kit(), reorders=reorders_of(3))
    folder = save_kit(kit, {"m": model_folder(tmp_path / "models", VECTORS, version="m")}, tmp_path)

    again = open_kit(str(folder))

    assert again.item_ids.to_pylist() == ["", "item-1", "item-2", "item-3"]
    assert again.allowed.tolist() == [False, True, False, True]
    assert again.segments == ("", "segment-1")
    assert {name: of.tolist() for name, of in again.groups.items()} == {
        "category": [-1, 0, 0, 1], "brand": [-1, -1, -1, -1],
    }  # fmt: skip
    assert again.segment_allowed is None
    assert again.allowed_in(1).tolist() == again.allowed.tolist()
    np.testing.assert_array_equal(again.similarity.toarray(), kit.similarity.toarray())
    np.testing.assert_array_equal(again.popularity(1), kit.popularity(1))
    assert kit.reorders is not None and again.reorders is not None
    for name in ("again", "log_days", "spread"):
        np.testing.assert_array_equal(getattr(again.reorders, name), getattr(kit.reorders, name))
    np.testing.assert_array_equal(again.bundles["m"].item_vectors, VECTORS)


def test_the_folder_is_named_by_the_content(tmp_path: Path) -> None:
    first, second = save_kit(a_kit(), {}, tmp_path), save_kit(a_kit(), {}, tmp_path)
    other = save_kit(kit_of(3, buyers=[[1, 2, 4]]), {}, tmp_path)

    assert first == second != other
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([first.name, other.name])


def test_a_small_segment_leans_on_the_whole_shop() -> None:
    kit = kit_of(2, buyers=[[1000, 500], [0, 1], [0, 1000]])

    assert kit.popularity(0).tolist() == [0, 1, 0.5]
    assert kit.popularity(1).argmax() == 1  # one buyer does not outweigh the shop
    assert kit.popularity(2).argmax() == 2  # a thousand do


@pytest.mark.spark
def test_workers_without_the_work_folder_get_the_kit_from_spark(
    spark: SparkSession, tmp_path: Path
) -> None:
    from recsys.scoring.spark import ship

    folder = save_kit(kit_of(3, buyers=[[5, 6, 7]]), {}, tmp_path)
    ship(spark, folder)
    shutil.rmtree(folder)

    assert open_kit(str(folder)).popularity(0).argmax() == 3


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, VECTORS)
    (folder / "manifest.json").write_text("{")

    with pytest.raises(CorruptArtifact, match=r"manifest.json is damaged"):
        open_bundle(folder)


def test_a_model_that_was_not_exported_names_the_step(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, VECTORS)
    manifest = (folder / "manifest.json").read_text().replace("model.onnx", "other.onnx")
    (folder / "manifest.json").write_text(manifest)
    (folder / "model.onnx").rename(folder / "other.onnx")

    with pytest.raises(MissingInput, match=r"has no model.onnx: run export_onnx first"):
        open_bundle(folder)


def test_a_file_that_is_no_onnx_is_refused_even_with_the_right_checksum(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, VECTORS)
    (folder / "model.onnx").write_bytes(b"not a model")

    with pytest.raises(
        CorruptArtifact, match=r"model.onnx does not open as an ONNX model .*run export_onnx"
    ):
        open_bundle(folder, check=False)


def test_vectors_of_another_width_are_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, VECTORS)
    np.save(folder / "item_vectors.npy", np.zeros((3, 5), np.float32))

    with pytest.raises(
        CorruptArtifact, match=r"float32 \(3, 5\), its manifest says float32 \(3, 2\)"
    ):
        open_bundle(folder, check=False)


def test_an_encoder_that_gives_nan_is_refused(tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[1] = np.inf
    bundle = open_bundle(model_folder(tmp_path, vectors))
    nums = np.array([[0] * 7 + [1], [0] * 8], dtype=np.int32)

    with pytest.raises(CorruptArtifact, match="NaN or infinity for 1 of 2 users with a history"):
        bundle.encoder.encode(bundle.item_vectors, nums, np.zeros((2, 8), np.float32))


def test_an_encoder_with_other_inputs_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, VECTORS)
    content = (folder / "model.onnx").read_bytes().replace(b"history_gaps", b"history_xxxx")
    (folder / "model.onnx").write_bytes(content)

    with pytest.raises(CorruptArtifact, match="scoring wants"):
        open_bundle(folder, check=False)


def test_the_hand_made_encoder_is_a_mean(tmp_path: Path) -> None:
    mean_encoder(tmp_path / "model.onnx", 8, 2)
    bundle = open_bundle(model_folder(tmp_path / "m", VECTORS))
    nums = np.array([[0] * 6 + [1, 2]], dtype=np.int32)

    found = bundle.encoder.encode(bundle.item_vectors, nums, np.ones((1, 8), np.float32))

    assert found.tolist() == [[2, 3]]
