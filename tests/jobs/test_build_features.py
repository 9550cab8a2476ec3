"""build_features and build_candidates on a shop of four customers, and again with another partitioning."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import build_candidates, build_features
from recsys import contracts as t
from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.sections import CandidatesConfig, TrainingConfig
from recsys.lake import Lake, Written
from tests.features.rows import Event, events_df, users_df

pytestmark = pytest.mark.spark
DAY = date(2024, 6, 1)
MAY = [date(2024, 5, 1) + timedelta(days=n) for n in range(31)]


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """ana and ben buy tea, then a cup; robot buys all day; cem looks."""
    paths = PathsConfig(root=str(tmp_path_factory.mktemp("shop")))
    lake = Lake(spark, paths)
    events = events_df(
        spark,
        [
            *[Event(user, "tea", MAY[3], session_id=f"{user}1") for user in ("ana", "ben")],
            *[Event(user, "cup", MAY[9], session_id=f"{user}2") for user in ("ana", "ben")],
            *[Event("robot", item, day) for day in MAY for item in ("tea", "pot")],
            Event("cem", "tea", MAY[30], "view"),
            Event(None, "cup", MAY[30], session_id="v1"),
            Event(None, "jam", MAY[30], session_id="v1"),
            Event("ana", "jam", DAY),  # the run date: not used
        ],
    )
    # Straight to Delta: the lake's checks are tested elsewhere.
    for contract, rows in (
        (t.EVENTS, events),
        (t.USERS, users_df(spark, [("ana", MAY[0], "UK")])),
    ):
        rows.coalesce(1).write.format("delta").save(lake.path(contract))
    yield lake


def config_of(lake: Lake) -> RecsysConfig:
    root = str(Path(lake.path(t.EVENTS)).parents[1])
    return RecsysConfig(
        paths=PathsConfig(root=root),
        training=TrainingConfig(when="never"),
        candidates=CandidatesConfig(max_user_events_90d=50),
    )


@pytest.fixture(scope="module")
def built(shop: Lake) -> dict[str, Written]:
    config = config_of(shop)
    written = build_features.run(shop, config, DAY) + build_candidates.run(shop, config, DAY)
    return {done.table: done for done in written}


def test_every_table_that_the_jobs_promise_is_written(built: dict[str, Written]) -> None:
    assert set(built) == {*build_features.JOB.writes, *build_candidates.JOB.writes}
    assert {name: done.rows for name, done in built.items()} == {
        "vocabularies": 4 + 4,  # items and users
        "user_features": 4,
        "item_features": 4,
        "histories": 4,
        "seen_items": 3,  # cem bought nothing
        "data_quality": 1,
        "item_similarity": 4,  # tea and cup, cup and jam, both ways
        "transitions": 2,
        "reorder_intervals": 2,  # tea and cup: who bought jam is not known
        "popularity": 3 + 2,  # tea, cup and jam in the shop; tea and cup in the UK
    }


def test_capped_users_are_counted_and_left_out(shop: Lake, built: dict[str, Written]) -> None:
    [row] = shop.read(t.DATA_QUALITY).collect()
    assert (row.job, row.check, row.subject, row.value) == (
        "build_features",
        "capped_users",
        "2024-06-01",
        1.0,
    )
    pairs = {(row.item_id, row.next_item_id) for row in shop.read(t.TRANSITIONS).collect()}
    assert len(pairs) == 2
    assert (
        "tea",
        "cup",
    ) in pairs  # and one way between cup and jam, by event_id: they share a moment
    assert "pot" not in {row.item_id for row in shop.read(t.POPULARITY).collect()}


def test_the_same_day_again_in_other_partitions_gives_the_same_tables(
    spark: SparkSession, shop: Lake, built: dict[str, Written]
) -> None:
    before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", 5)
    try:
        config = config_of(shop)
        again = build_features.run(shop, config, DAY) + build_candidates.run(shop, config, DAY)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before or "2")
    assert {done.table: done.content_hash for done in again} == {
        name: done.content_hash for name, done in built.items()
    }
    assert shop.read(t.HISTORIES).where(F.col("as_of") == DAY).count() == 4
