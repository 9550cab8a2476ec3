from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from jobs import build_training_set
from recsys.config import RecsysConfig
from recsys.config.sections import TrainingConfig, TrainingSetConfig
from recsys.contracts import HISTORIES, TRAINING_EXAMPLES, VOCABULARIES
from recsys.lake import Lake, local_rows, struct_type
from tests.features.rows import vocabulary_df

pytestmark = pytest.mark.spark
RUN_DATE = date(2024, 6, 1)
USERS = 40
USER_IDS = [f"u{n}" for n in range(USERS)]


def write_histories(spark: SparkSession, lake: Lake, config: RecsysConfig) -> None:
    """The same users at each cut-off, with a history of 5; straight to Delta."""
    rows = [
        (
            user_id,
            day,
            None,
            list("abcde"),
            [1, 2, 3, 4, 5],
            ["view"] * 4 + ["purchase"],
            [9.0] * 5,
            False,
        )
        for day in config.evaluation.cut_offs(RUN_DATE).all()
        for user_id in USER_IDS
    ]
    histories = local_rows(spark, rows, struct_type(HISTORIES))
    histories.coalesce(1).write.format("delta").save(lake.path(HISTORIES))
    for day in config.evaluation.cut_offs(RUN_DATE).all():
        vocabulary = vocabulary_df(spark, day, list("abcde"), USER_IDS)
        lake.replace(vocabulary, VOCABULARIES, {"version": day})


def test_every_cut_off_gets_its_examples(
    spark: SparkSession, lake: Lake, config: RecsysConfig
) -> None:
    config = config.model_copy(update={"training_set": TrainingSetConfig(max_length=3)})
    write_histories(spark, lake, config)

    written = build_training_set.run(lake, config, RUN_DATE)

    assert [done.rows for done in written] == [
        2 * USERS
    ] * 3  # a history of 5 makes two windows of 4
    examples = lake.read(TRAINING_EXAMPLES, as_of=RUN_DATE).orderBy("example_id").collect()
    assert [row.example_id for row in examples] == list(range(2 * USERS))
    assert np.frombuffer(examples[0].item_nums, "<i4").tolist() == [2, 3, 4, 5]
    assert np.frombuffer(examples[0].targets, "u1").tolist() == [0, 0, 0, 1]
    number = {user_id: num for num, user_id in enumerate(USER_IDS, 1)}
    assert all(row.user_num == number[row.user_id] for row in examples)


def test_nothing_is_done_when_no_training_is_due(lake: Lake, config: RecsysConfig) -> None:
    config = config.model_copy(update={"training": TrainingConfig(when="never")})
    assert build_training_set.run(lake, config, RUN_DATE) == []
    assert not Path(lake.path(TRAINING_EXAMPLES)).exists()
