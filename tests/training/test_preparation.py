"""What training is given to choose its epochs by, from the tables."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.config import RecsysConfig
from recsys.contracts import EVENTS, HISTORIES, VOCABULARIES
from recsys.errors import MissingInput
from recsys.lake import Lake, apply_contract, local_rows, struct_type
from recsys.training.preparation import write_validation_users
from tests.features.rows import vocabulary_df
from tests.training.worlds import AS_OF

pytestmark = pytest.mark.spark


def write_tables(spark: SparkSession, lake: Lake, config: RecsysConfig, bought: list[str]) -> None:
    """Ana has a history before the choosing day, and buys the items ``bought`` on the day after it."""
    day = config.evaluation.cut_offs(AS_OF).choosing
    lake.replace(
        vocabulary_df(spark, day, ["cup", "plate"], ["ana"]), VOCABULARIES, {"version": day}
    )
    history = ("ana", day, None, ["cup"], [1], ["purchase"], [1.0], False)
    rows = apply_contract(local_rows(spark, [history], struct_type(HISTORIES)), HISTORIES)
    lake.replace(rows, HISTORIES, {"as_of": day})
    schema, at = struct_type(EVENTS), datetime.combine(day, datetime.min.time()) + timedelta(days=1)
    events = []
    for number, item in enumerate(bought):
        values = {
            "event_id": f"e{number}", "event_ts": at, "event_date": at.date(), "user_id": "ana", "item_id": item,
            "event_type": config.shop.event_types("target")[0], "source": "shop", "source_file": "f",
        }  # fmt: skip
        events.append(tuple(values.get(name) for name in schema.names))
    lake.replace(
        local_rows(spark, events, schema), EVENTS, {"source": "shop", "source_file": ["f"]}
    )


def test_users_who_bought_only_what_was_not_known_choose_no_epochs(
    spark: SparkSession, lake: Lake, config: RecsysConfig, tmp_path: Path
) -> None:
    """Every epoch would find as little, and the first be called the best."""
    write_tables(spark, lake, config, ["new lamp", "new vase"])
    with pytest.raises(MissingInput, match=r"none of the 1 users .* that was known before"):
        write_validation_users(lake, config, AS_OF, tmp_path / "users.npz")
    write_tables(spark, lake, config, ["new lamp", "plate"])
    assert write_validation_users(lake, config, AS_OF, tmp_path / "users.npz") == 1
