"""The groups of the jackknife, as Spark's quantiles cut them and workers sort users into them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from recsys.evaluation.list_figures import GROUPS
from recsys.evaluation.tally import group_order

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.spark
@pytest.mark.parametrize("users", [1, 20, 110, 1000])
def test_groups_differ_by_one_user_at_most(spark: SparkSession, users: int) -> None:
    """Their ends are users themselves, so an end that lost a bit on its way would leave its user out."""
    from pyspark.sql import functions as F

    from recsys.evaluation.windows import Spread

    people = spark.range(users).select(F.xxhash64("id", F.lit(17)).alias("sample_order"))
    hashes = np.array([row.sample_order for row in people.collect()], dtype=np.int64)

    found = Spread.of(people)

    sizes = np.bincount(
        np.searchsorted(found.group_ends, group_order(hashes.view(np.uint64))), minlength=GROUPS
    )
    assert found.num_users == users == sizes.sum()
    assert len(found.group_ends) == GROUPS - 1
    assert sizes.max() - sizes.min() <= 1
