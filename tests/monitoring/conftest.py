"""A published shop of one's own per test: made once, copied."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recsys.config import RecsysConfig
from tests.monitoring.world import config_of, publish_shop

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def published_root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from recsys.lake import Lake

    root = tmp_path_factory.mktemp("published")
    config = config_of(root)
    publish_shop(Lake(spark, config.paths), config)
    return root


@pytest.fixture
def shop(published_root: Path, tmp_path: Path) -> RecsysConfig:
    root = tmp_path / "var"
    shutil.copytree(published_root, root)
    return config_of(root)
