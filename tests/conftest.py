"""Fixtures that every room uses: a Spark session for the whole run, and a lake of one's own per test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig, SparkConfig

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys.lake import Lake

settings.register_profile(
    "recsys",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("recsys")

os.environ.setdefault("OMP_NUM_THREADS", "1")

TEST_SPARK = SparkConfig(
    driver_memory="2g",
    settings={
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC -XX:+UseSerialGC",
        # Tests run each query once: to compile it costs more than it saves. For the six feature tables of
        # tests/features/test_point_in_time.py 7.5 s of processor time without these two, 3.5 s with them.
        # Jobs submitted by tests do compile.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    },
)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    from recsys.lake import spark_session

    with spark_session("tests", TEST_SPARK) as session:
        yield session


@pytest.fixture
def config(tmp_path: Path) -> RecsysConfig:
    """Defaults, with everything written under the test's own folder."""
    return RecsysConfig(paths=PathsConfig(root=str(tmp_path / "var")), spark=TEST_SPARK)


@pytest.fixture
def lake(spark: SparkSession, config: RecsysConfig) -> Lake:
    from recsys.lake import Lake

    return Lake(spark, config.paths)
