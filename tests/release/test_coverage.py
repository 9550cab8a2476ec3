"""A release for far fewer users than there are does not go live."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.config import RecsysConfig
from recsys.config.sections import PublishConfig
from recsys.contracts import HISTORIES, RELEASES
from recsys.errors import Refused
from recsys.lake import Lake
from recsys.release.pins import pin
from recsys.release.pointer import live_release
from recsys.release.publish import publish
from tests.release.making import NOON
from tests.release.shop import LISTS, RUN_DATE, Lists, write_lists, write_table

pytestmark = pytest.mark.spark
LATER = NOON + timedelta(hours=1)
NOTHING: tuple[list[str], list[float], list[str]] = ([], [], [])
ONE_LEFT: Lists = {"ana": LISTS["ana"], "bob": NOTHING}


def test_a_release_with_lists_for_far_fewer_users_than_the_live_one_is_refused(
    spark: SparkSession, lists: RecsysConfig
) -> None:
    lake, root = Lake(spark, lists.paths), Path(lists.paths.lake_uri)
    first = publish(lake, lists, RUN_DATE, now=NOON).manifest
    assert first.users_with_a_list == 3
    write_lists(root, {"ana": LISTS["ana"]})
    half = lists.model_copy(update={"publish": PublishConfig(min_users_share=0.5)})

    with pytest.raises(
        Refused,
        match=rf"is not published: 1 users have a list in it that is not empty, 3 have one in {first.release_id}, "
        r"which is live \(publish\.min_users_share: 0\.5\).*--set publish\.min_users_share=0",
    ):
        publish(lake, half, RUN_DATE, now=LATER)

    assert live_release(lists.paths) == first
    assert lake.read(RELEASES).count() == 1
    on_disk = [path.name for path in lists.paths.releases.iterdir() if path.is_dir()]
    assert on_disk == [first.release_id]

    pin(lists.paths, None, reason="sales week", now=LATER)
    held = publish(lake, half, RUN_DATE, now=LATER)
    assert (held.built, held.live) == (True, False)  # nobody is given it


def test_few_lists_go_live_where_that_is_wanted_and_stay_at_the_next_publish(
    spark: SparkSession, lists: RecsysConfig
) -> None:
    lake = Lake(spark, lists.paths)
    write_lists(Path(lists.paths.lake_uri), ONE_LEFT)
    with pytest.raises(Refused, match=r"1 users have a list .*, 2 were to be scored"):
        publish(lake, lists, RUN_DATE, now=NOON)
    assert live_release(lists.paths) is None
    any_share = lists.model_copy(update={"publish": PublishConfig(min_users_share=0)})

    wanted = publish(lake, any_share, RUN_DATE, now=NOON)

    assert wanted.live
    again = publish(lake, lists, RUN_DATE, now=LATER)
    assert (again.built, again.live, again.manifest) == (False, True, wanted.manifest)


def test_users_with_a_history_were_to_be_scored(spark: SparkSession, lists: RecsysConfig) -> None:
    histories = [
        dict(user_id=f"user-{n}", segment="France", item_ids=["tea"], item_nums=[1],
             event_types=["purchase"], ages_days=[1.0], is_capped=False)
        for n in range(9)
    ]  # fmt: skip
    write_table(Path(lists.paths.lake_uri), HISTORIES, histories)
    with pytest.raises(Refused, match=r"3 users have a list .*, 9 were to be scored"):
        publish(Lake(spark, lists.paths), lists, RUN_DATE, now=NOON)
