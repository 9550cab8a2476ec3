"""Ids that the catalogue does not have, and what may have been meant."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner

from recsys.blocked import blocked_path, read_blocked, unblock_item
from recsys.cli import app
from recsys.config.places import PathsConfig
from recsys.sql.known_items import nearest_items

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)


def test_a_slip_is_told_with_the_ids_that_are_like_it(asked_shop: PathsConfig) -> None:
    assert nearest_items(asked_shop, "tea") == []
    near = nearest_items(asked_shop, "taa")
    assert near[0] == "tea" and len(near) == 3


def test_where_there_is_no_catalogue_nothing_is_said(tmp_path: Path) -> None:
    assert nearest_items(PathsConfig(root=str(tmp_path)), "tea") == []


def test_an_unknown_item_is_blocked_with_a_warning(asked_shop: PathsConfig) -> None:
    command = [
        "block-item",
        "cupp",
        "--reason",
        "recalled",
        "--set",
        f"paths.root={asked_shop.root}",
    ]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    assert "warning: the catalogue has no item 'cupp'; the nearest are: cup, " in said.stderr
    assert list(read_blocked(blocked_path(asked_shop))) == ["cupp"]
    unblock_item(asked_shop, "cupp")
