"""One small shop, generated once, and its first night: what the integration tests look at."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from recsys.config import RecsysConfig, load_config
from tests.integration.nights import NIGHT, Shop, generate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The generated files and an empty lake."""
    from recsys.lake import Lake

    root = tmp_path_factory.mktemp("shop")
    overrides = generate(root)
    config = load_config("generated_shop", overrides)
    lake = Lake(spark, config.paths)
    importlib.import_module("jobs.generate_shop").run(lake, config, date.min)
    planted = json.loads((root / "shop" / "planted.json").read_text())
    return Shop(lake, overrides, planted)


@pytest.fixture(scope="session")
def first_night(shop: Shop) -> RecsysConfig:
    """The first release of the shop."""
    return shop.night(NIGHT, "gate.bootstrap=true")


@pytest.fixture(scope="session")
def second_night(shop: Shop, first_night: RecsysConfig) -> RecsysConfig:
    """The night after: a new model is trained and refused, and what was bought is masked from now on."""
    overrides = ("training.when=always", "gate.min_ndcg_at_10=0.99", "shop.exclude_seen=true")
    return shop.night(NIGHT + timedelta(days=1), *overrides)


@pytest.fixture
def ask(shop: Shop) -> Callable[[str], list[Any]]:
    """SQL over the shop's tables, in DuckDB."""
    from recsys.sql.duck import open_lake

    def query(sql: str) -> list[Any]:
        with open_lake(shop.config().paths) as lake:
            return [tuple(row) for row in lake.query(sql)[1]]

    return query
