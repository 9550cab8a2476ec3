"""One small shop, generated once, and its first night: what the integration tests look at."""

from __future__ import annotations

import importlib
import json
import subprocess
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from recsys.config import RecsysConfig, load_config
from tests.integration.nights import NIGHT, Shop, generate, submitted, without_network

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
    """The first release of the shop: a submitted night, without a network where the machine lets us take it away."""
    command = submitted(shop, NIGHT, "--bootstrap")
    if subprocess.run(without_network(["true"]), capture_output=True, check=False).returncode == 0:
        command = without_network(command)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return shop.config("gate.bootstrap=true")


@pytest.fixture(scope="session")
def second_night(
    shop: Shop, first_night: RecsysConfig, tmp_path_factory: pytest.TempPathFactory
) -> RecsysConfig:
    """The night after, on a copy: a new model is trained and refused, and what was bought is masked from now on."""
    later = shop.copied_to(tmp_path_factory.mktemp("second_night") / "var")
    overrides = ("training.when=always", "gate.min_ndcg_at_10=0.99", "shop.exclude_seen=true")
    return later.night(NIGHT + timedelta(days=1), *overrides)
