"""What the ranking model is told of items and users, from the tables as of a day."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys.contracts import HISTORIES, ITEM_FEATURES, ITEMS, USERS, VOCABULARIES
from recsys.errors import MissingInput
from recsys.lake import Lake, apply_contract, local_rows, struct_type
from recsys.models.ranking_fields import Attributes
from recsys.training.attributes import write_attributes
from recsys.training.checkpoint import read_arrays
from tests.features.rows import items_df, users_df, vocabulary_df

DAY = date(2024, 6, 1)
BEFORE = DAY - timedelta(days=9)

pytestmark = pytest.mark.spark


def write_tables(spark: SparkSession, lake: Lake) -> None:
    items = items_df(
        spark,
        [("i1", BEFORE, "plates", None), ("i2", BEFORE, "cups", None), ("i2", DAY, "later", None)],
    )
    lake.replace(items, ITEMS, {"source": "shop", "source_file": [f"file {n}" for n in range(3)]})
    users = users_df(spark, [("u2", BEFORE, "south"), ("u1", BEFORE, "north"), ("u3", DAY, "east")])
    lake.replace(users, USERS, {"source": "shop", "source_file": [f"file {n}" for n in range(3)]})
    vocabulary = vocabulary_df(spark, DAY, ["i1", "i2", "i3"], ["u1", "u2", "u3"])
    lake.replace(vocabulary, VOCABULARIES, {"version": DAY})
    schema = struct_type(ITEM_FEATURES)
    prices = {"i1": Decimal(4), "i2": Decimal(2), "i3": None}
    features = [
        tuple({"item_id": item, "as_of": DAY, "price": price}.get(name) for name in schema.names)
        for item, price in prices.items()
    ]
    lake.replace(local_rows(spark, features, schema), ITEM_FEATURES, {"as_of": DAY})
    rows = [
        ("u1", DAY, "north", ["i1"] * 3, [1, 1, 2], ["view"] * 3, [1.0] * 3, False),
        ("u2", DAY, None, ["i2"] * 2, [2, 2], ["view"] * 2, [1.0] * 2, True),  # capped
        ("u3", DAY, None, ["i3"], [3], ["view"], [1.0], False),  # one event: no example
    ]
    histories = local_rows(spark, rows, struct_type(HISTORIES))
    lake.replace(apply_contract(histories, HISTORIES), HISTORIES, {"as_of": DAY})


def test_attributes_are_those_known_before_the_day(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    write_tables(spark, lake)
    write_attributes(lake, DAY, tmp_path / "attributes.npz", max_history=3)
    found = Attributes.of(read_arrays(tmp_path / "attributes.npz"))
    assert (found.segments, found.categories) == (("north", "south"), ("cups", "plates"))
    assert found.segment_num_U.tolist() == [0, 1, 2, 0]
    assert found.category_num_I.tolist() == [0, 2, 1, 0]
    assert found.num_events_I.tolist() == [0, 2, 1, 0]
    low, high = found.price_bucket_I[[2, 1]]
    assert 1 <= low < high <= 10 and found.price_bucket_I[[0, 3]].tolist() == [0, 0]
    assert found.is_cut_U.tolist() == [
        False,
        True,
        False,
        False,
    ]  # three events, as many as there may be

    empty = lake.read(VOCABULARIES).where(F.lit(False))
    lake.replace(empty, VOCABULARIES, {"version": DAY})
    with pytest.raises(MissingInput, match="no item vocabulary of 2024-06-01"):
        write_attributes(lake, DAY, tmp_path / "none.npz", max_history=3)
