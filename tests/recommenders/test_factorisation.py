"""Users are folded in as Spark itself would solve them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from recsys.recommenders import Shop
from recsys.recommenders.factorisation import Factorisation, Factors
from tests.recommenders.worlds import groups, histories, unknown

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.spark
def test_a_folded_in_user_is_the_one_that_spark_solved(spark: SparkSession) -> None:
    from pyspark.ml.recommendation import ALS

    shop = Shop(5, histories([[1, 2], [2, 3, 4], [1, 5], [4, 5, 1]]), seed=3, spark=spark)
    ours = Factorisation(width=3, iterations=2, decay=1.0).fit(shop)
    cells = [
        (int(u), int(i), 1.0)
        for u, i in zip(shop.histories.rows, shop.histories.item_nums, strict=True)
    ]
    frame = spark.createDataFrame(cells, "user_num int, item_num int, weight float")
    model = ALS(
        rank=3,
        maxIter=2,
        regParam=ours.regularisation,
        alpha=ours.confidence,
        implicitPrefs=True,
        seed=3,
        userCol="user_num",
        itemCol="item_num",
        ratingCol="weight",
        numUserBlocks=2,
        numItemBlocks=2,
    ).fit(frame)
    users = np.array([row.features for row in model.userFactors.orderBy("id").collect()])
    items = np.array([row.features for row in model.itemFactors.orderBy("id").collect()])

    scores = ours.scores(shop.everyone())[:, 1:]

    np.testing.assert_allclose(scores, users @ items.T, atol=2e-3)


@pytest.mark.spark
def test_two_seeds_give_two_fits(spark: SparkSession) -> None:
    shop = replace(groups().shop, spark=spark)
    small = Factorisation(width=4, iterations=1)

    one = small.fit(shop).learned.items
    other = Factorisation(width=4, iterations=1).fit(replace(shop, seed=18)).learned.items

    assert np.abs(one - other).max() > 1e-3


def test_a_grown_history_is_scored_without_a_new_fit() -> None:
    fitted = Factorisation(width=2)
    fitted.learned = Factors(np.array([[0.0, 0.0], [1, 0], [1, 0], [0, 1], [0, 1]]))

    scores = fitted.scores(unknown(histories([[1], [1, 3], [1, 3, 3]])))

    assert scores[0, 2] > scores[0, 4]
    assert scores[1, 4] > scores[0, 4]
    assert scores[2, 4] > scores[1, 4]
