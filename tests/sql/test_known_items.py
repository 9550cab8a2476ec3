"""Ids that the catalogue does not have, and what may have been meant."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recsys.blocked import blocked_path, read_blocked
from recsys.cli import app
from recsys.config.places import PathsConfig
from recsys.sql.known_items import nearest_items
from tests.release.shop import write_shop


def test_a_slip_is_told_with_the_ids_that_are_like_it(asked_shop: PathsConfig) -> None:
    assert nearest_items(asked_shop, "tea") == []
    near = nearest_items(asked_shop, "taa")
    assert near[0] == "tea" and len(near) == 3


def test_where_there_is_no_catalogue_nothing_is_said(tmp_path: Path) -> None:
    assert nearest_items(PathsConfig(root=str(tmp_path)), "tea") == []


BLOCK = ("block-item", "cupp", "--reason", "recalled")


@pytest.fixture
def shop(tmp_path: Path) -> PathsConfig:
    paths = PathsConfig(root=str(tmp_path))
    write_shop(Path(paths.lake_uri))
    return paths


def test_an_unknown_item_is_blocked_with_a_warning(shop: PathsConfig) -> None:
    said = CliRunner().invoke(app, [*BLOCK, "--set", f"paths.root={shop.root}"])
    assert said.exit_code == 0, said.output
    assert "warning: the catalogue has no item 'cupp'; the nearest are: cup, " in said.stderr
    assert list(read_blocked(blocked_path(shop))) == ["cupp"]


def test_the_warning_comes_also_where_hosts_cannot_be_told(
    shop: PathsConfig, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text("no folder")
    where = ["--set", f"paths.root={shop.root}", "--set", f"publish.url={tmp_path.as_uri()}/url"]
    said = CliRunner().invoke(app, [*BLOCK, *where])
    assert (said.exit_code, "do not know it yet" in said.stderr) == (1, True)
    assert "warning: the catalogue has no item 'cupp'; the nearest are: cup, " in said.stderr


def test_without_what_asks_tables_an_item_is_blocked_all_the_same(
    shop: PathsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "recsys.sql.known_items", raising=False)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.delitem(sys.modules, "recsys.sql.duck", raising=False)
    said = CliRunner().invoke(app, [*BLOCK, "--set", f"paths.root={shop.root}"])
    assert (said.exit_code, said.stderr) == (0, "")
    assert list(read_blocked(blocked_path(shop))) == ["cupp"]
