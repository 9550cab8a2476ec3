"""What is known as of a day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from pyspark.sql import SparkSession

from recsys.contracts import ITEMS
from recsys.lake import local_rows, struct_type
from recsys.lake.as_of import known_before

DAY = date(2024, 6, 1)


@pytest.mark.spark
def test_what_is_not_said_again_still_holds(spark: SparkSession) -> None:
    rows = [
        # the catalogue, then two days of till lines that know a title and a price alone
        ("tea", date(2024, 1, 1), "TEA", "drinks", None, None, 7, "catalogue"),
        ("tea", date(2024, 5, 2), "GREEN TEA", None, None, Decimal(3), None, "till"),
        ("tea", date(2024, 5, 9), None, None, None, Decimal(4), None, "till"),
        ("tea", DAY, "RED TEA", "tomorrow", None, Decimal(9), 0, "till"),
        ("cup", date(2024, 5, 9), None, None, None, None, None, "till"),
    ]
    items = local_rows(
        spark,
        [(*row[:7], None, None, row[7], f"file of {row[1]}", None) for row in rows],
        struct_type(ITEMS),
    )
    found = known_before(items, "item_id", DAY).select(
        "item_id", "title", "category", "price", "stock"
    )
    assert sorted(tuple(row) for row in found.collect()) == [
        ("cup", None, None, None, None),
        ("tea", "GREEN TEA", "drinks", Decimal(4), 7),
    ]
