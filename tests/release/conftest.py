"""A scored shop of one's own per test: written once, copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recsys.config import RecsysConfig
from tests.release.shop import copy_published, write_scoring_record, write_shop


@pytest.fixture(scope="session")
def shop_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    write_shop(root)
    return root


@pytest.fixture
def shop(shop_tables: Path, config: RecsysConfig) -> RecsysConfig:
    """A configuration whose lake holds the scored shop, ready to be published."""
    shutil.copytree(shop_tables, config.paths.lake_uri)
    write_scoring_record(config.paths)
    return config


@pytest.fixture
def lists(shop_tables: Path, config: RecsysConfig) -> RecsysConfig:
    """As ``shop``, with the published tables alone."""
    copy_published(shop_tables, Path(config.paths.lake_uri))
    write_scoring_record(config.paths)
    return config
