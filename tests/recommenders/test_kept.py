"""What was learned survives a folder, and a damaged folder is told from a good one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import CorruptArtifact, MissingInput
from recsys.recommenders import Shop
from recsys.recommenders.item_item import ItemItem
from recsys.recommenders.kept import SETTINGS
from tests.recommenders.worlds import histories


def fitted() -> ItemItem:
    return ItemItem(gaps=2, decay=0.5).fit(Shop(4, histories([[1, 2, 3], [2, 4], [3, 1, 2]])))


def test_settings_come_back_with_what_was_learned(tmp_path: Path) -> None:
    fitted().save(tmp_path)

    loaded = ItemItem.load(tmp_path)

    assert loaded == ItemItem(gaps=2, decay=0.5)
    np.testing.assert_array_equal(
        loaded.learned.weights.toarray(), fitted().learned.weights.toarray()
    )


def test_one_changed_byte_is_told(tmp_path: Path) -> None:
    fitted().save(tmp_path)
    path = tmp_path / "weights.data.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(bytes(damaged))

    with pytest.raises(CorruptArtifact, match=r"weights\.data\.npy is not the file that was saved"):
        ItemItem.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"recommender": "item_item"}', '{"recommender": "popularity"}']
)
def test_a_damaged_description_is_told(tmp_path: Path, text: str) -> None:
    fitted().save(tmp_path)
    (tmp_path / SETTINGS).write_text(text)

    with pytest.raises(CorruptArtifact, match=str(tmp_path)):
        ItemItem.load(tmp_path)


def test_a_setting_of_another_version_is_told(tmp_path: Path) -> None:
    fitted().save(tmp_path)
    about = json.loads((tmp_path / SETTINGS).read_text())
    about["settings"]["half_life"] = 3
    (tmp_path / SETTINGS).write_text(json.dumps(about))

    with pytest.raises(CorruptArtifact, match="half_life"):
        ItemItem.load(tmp_path)


def test_one_that_has_learned_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="item_item has learned nothing yet"):
        ItemItem().save(tmp_path)
