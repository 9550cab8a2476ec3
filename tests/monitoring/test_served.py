"""served_history: what each user was offered, kept once per release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recsys.config import RecsysConfig
from recsys.contracts import SERVED_HISTORY, TOP_N_LISTS
from recsys.release.pointer import live_release
from recsys.release.served import SERVED, write_served
from tests.monitoring.world import USERS
from tests.release.shop import RUN_DATE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def test_the_first_ten_of_each_list_are_kept_once(spark: SparkSession, shop: RecsysConfig) -> None:
    from recsys.lake import Lake

    lake = Lake(spark, shop.paths)
    manifest = live_release(shop.paths)
    assert manifest is not None

    kept = {row["user_id"]: row for row in lake.read(SERVED_HISTORY).collect()}
    assert len(kept) == len(USERS), "publish has written them"
    offered = {row["user_id"]: row for row in lake.read(TOP_N_LISTS, as_of=RUN_DATE).collect()}
    assert {u: r["item_ids"] for u, r in kept.items()} == {
        u: r["item_ids"][:SERVED] for u, r in offered.items()
    }
    assert {(r["release_id"], r["run_date"]) for r in kept.values()} == {
        (manifest.release_id, RUN_DATE)
    }
    version = lake.version(SERVED_HISTORY)
    assert write_served(lake, [manifest]) == [], "kept already: nothing is written"
    assert lake.version(SERVED_HISTORY) == version
