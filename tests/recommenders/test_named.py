"""Recommenders by name and by a dotted path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from recsys.errors import ConfigError
from recsys.recommenders.item_item import ItemItem
from recsys.recommenders.named import SHIPPED, about, recommender

OWN = """
from __future__ import annotations


class Constant:
    name = "constant"
    about = "one number for all"

    def fit(self, shop):
        return self

    def scores(self, users):
        return None

    def save(self, folder):
        pass

    @classmethod
    def load(cls, folder):
        return cls()


class Half:
    name = "half"

    def fit(self, shop):
        return self


class Wants(Constant):
    def __init__(self, width):
        pass


not_a_class = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module, outside this repository."""
    (tmp_path / "shop_of_mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shop_of_mine", raising=False)
    return "shop_of_mine"


def test_a_shipped_name_gives_its_class_with_the_defaults() -> None:
    assert recommender("item_item") == ItemItem()


@pytest.mark.parametrize("path", SHIPPED.values(), ids=SHIPPED.keys())
def test_every_shipped_recommender_can_be_imported_and_called_by_its_name(path: str) -> None:
    name = next(name for name, shipped in SHIPPED.items() if shipped == path)

    assert recommender(name).name == name
    assert recommender(path).name == name


def test_there_is_a_line_about_each() -> None:
    assert [line.split()[0] for line in about()] == list(SHIPPED)


def test_a_class_of_the_users_own_is_made_by_its_path(own: str) -> None:
    assert recommender(f"{own}:Constant").name == "constant"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("item_items", "no recommender is called 'item_items'; there are .*item_item"),
        ("shop_of_mine:", "no recommender is called"),
        ("nowhere_at_all:Model", "nowhere_at_all.*PYTHONPATH"),
        ("shop_of_mine:Missing", "shop_of_mine has no class Missing"),
        ("shop_of_mine:not_a_class", "has no class not_a_class"),
        ("shop_of_mine:Half", "is no recommender: it has no about, scores, save, load"),
        ("shop_of_mine:Wants", "cannot be made without arguments"),
    ],
)
def test_what_is_wrong_with_a_name_or_a_path_is_said(own: str, path: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        recommender(path)
