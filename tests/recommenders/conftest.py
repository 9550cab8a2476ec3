"""Each case of the contract fitted once on the suite's shop, and a way to fit it on another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recsys.recommenders import Recommender, Shop
from tests.recommenders.contract import Case, small_shop

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def fit(
    case: Case, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Shop], Recommender]:
    spark: SparkSession | None = request.getfixturevalue("spark") if case.spark else None

    def fitted_on(shop: Shop) -> Recommender:
        work: Path = tmp_path_factory.mktemp("work")
        return case.make().fit(replace(shop, work=work, spark=spark))

    return fitted_on


@pytest.fixture(scope="session")
def fitted_cases() -> dict[int, Recommender]:
    """By the case's identity: a fit costs more than what most tests ask of it."""
    return {}


@pytest.fixture
def fitted(
    case: Case, fit: Callable[[Shop], Recommender], fitted_cases: dict[int, Recommender]
) -> Recommender:
    if id(case) not in fitted_cases:
        fitted_cases[id(case)] = fit(small_shop())
    return fitted_cases[id(case)]
