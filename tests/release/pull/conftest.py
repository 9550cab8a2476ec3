"""A publisher, the folder at its URL, and hosts that pull."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.config.places import PathsConfig
from tests.release.pull.shops import Shop
from tests.release.pull.web import Web, web_server


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A publisher that announces at a folder of its own."""
    return Shop(PathsConfig(root=str(tmp_path / "publisher")), tmp_path / "published")


@pytest.fixture
def host(tmp_path: Path) -> PathsConfig:
    return PathsConfig(root=str(tmp_path / "host"))


@pytest.fixture
def web(shop: Shop) -> Iterator[Web]:
    shop.folder.mkdir(exist_ok=True)
    with web_server(shop.folder) as web:
        yield web
