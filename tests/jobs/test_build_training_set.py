from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from petastorm import make_batch_reader
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import build_training_set
from recsys.config import RecsysConfig
from recsys.config.sections import TrainingConfig, TrainingSetConfig
from recsys.contracts import HISTORIES, TRAINING_EXAMPLES
from recsys.lake import Lake, struct_type

pytestmark = pytest.mark.spark
RUN_DATE = date(2024, 6, 1)
USERS = 40


def write_histories(spark: SparkSession, lake: Lake, config: RecsysConfig) -> None:
    """The same users at each cut-off, with a history of 5; straight to Delta."""
    rows = [
        (
            f"u{n}",
            day,
            None,
            list("abcde"),
            [1, 2, 3, 4, 5],
            ["view"] * 4 + ["purchase"],
            [9.0] * 5,
            False,
        )
        for day in config.evaluation.cut_offs(RUN_DATE).all()
        for n in range(USERS)
    ]
    histories = spark.createDataFrame(rows, struct_type(HISTORIES))
    histories.coalesce(1).write.format("delta").save(lake.path(HISTORIES))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # petastorm 0.13 with pyarrow 14
def test_every_cut_off_gets_its_examples_and_two_processes_share_them_out(
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

    files = lake.read(TRAINING_EXAMPLES).where(F.col("as_of") == RUN_DATE).inputFiles()
    shards = []
    for shard in (0, 1):
        with make_batch_reader(
            files, cur_shard=shard, shard_count=2, shuffle_row_groups=False, num_epochs=1,
            reader_pool_type="dummy", schema_fields=["example_id"],
        ) as reader:  # fmt: skip
            shards.append({int(number) for batch in reader for number in batch.example_id})
    assert all(shards), "a process without a row group"
    assert not shards[0] & shards[1]
    assert shards[0] | shards[1] == set(range(2 * USERS))


def test_nothing_is_done_when_no_training_is_due(lake: Lake, config: RecsysConfig) -> None:
    config = config.model_copy(update={"training": TrainingConfig(when="never")})
    assert build_training_set.run(lake, config, RUN_DATE) == []
    assert not Path(lake.path(TRAINING_EXAMPLES)).exists()
