"""A value that its type or our column cannot hold costs its row, not the night."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.config import RecsysConfig
from recsys.ingest import read_descriptions
from recsys.ingest.description import SourceDescription
from recsys.ingest.judged_rows import judge_rows
from recsys.ingest.raw_rows import read_raw_rows
from tests.ingest.tills import FIRST_DAY, RUN_DATE, Till, line, till

pytestmark = pytest.mark.spark


@pytest.fixture
def shop(tmp_path: Path, config: RecsysConfig, monkeypatch: pytest.MonkeyPatch) -> Till:
    made = till(tmp_path, config)
    monkeypatch.setenv("RECSYS_CONF", str(made.conf))
    return made


def reasons(
    spark: SparkSession, shop: Till, description: SourceDescription
) -> list[tuple[str, list[str]]]:
    rows = judge_rows(read_raw_rows(spark, description), shop.config, RUN_DATE)
    kept = rows.where("_position >= 0").orderBy("_position").select("_status", "_reasons").collect()
    return [(row["_status"], row["_reasons"]) for row in kept]


def test_an_event_s_value_that_does_not_fit_is_quarantined(spark: SparkSession, shop: Till) -> None:
    rows = [
        ("2024-01-01 10:00:00", "a1", 1.5, 2.0),
        ("2024-01-01 10:00:01", "a1", 1e17, 2.0),  # more than decimal(18,4) holds
        ("2024-01-01 10:00:02", "a1", float("nan"), 1e18),
        ("2024-01-01 10:00:03", "a1", None, None),  # nothing there: nothing to fit
        ("2024-01-01 10:00:04", "bag", 1e17, 2.0),  # a rule, too
    ]
    loaded = spark.createDataFrame(rows, "time string, article string, price double, pieces double")
    loaded.coalesce(1).write.parquet(str(shop.files / "rows"))
    shop.describe(
        "rows/*.parquet",
        format={"type": "parquet"},
        raw_columns={
            "time": "timestamp", "article": "string", "price": "double", "pieces": "double",
        },
        columns={"event_ts": "time", "item_id": "article", "quantity": "pieces"},
        event_type="purchase",
        segment=None,
        attributes={},
        items={"price": "price"},
        rules=[{"reason": "carrier_bag", "column": "article", "none_of": ["bag"]}],
    )  # fmt: skip
    [description] = read_descriptions(shop.config, RUN_DATE)
    assert reasons(spark, shop, description) == [
        ("accepted", []),
        ("quarantined", ["unfit_price"]),
        ("quarantined", ["unfit_quantity", "unfit_price"]),
        ("accepted", []),
        ("quarantined", ["carrier_bag", "unfit_price"]),
    ]


def test_an_item_s_value_that_does_not_fit_makes_no_later_row_a_repeat(
    spark: SparkSession, shop: Till
) -> None:
    shop.deliver(
        "items.csv.gz",
        ["a1,1e30,2024-01-01", "a1,7,2024-01-01", "a2,7,soon", "a2,7,"],
        header="article,stock,since",
    )
    description = SourceDescription.model_validate({
        "name": "items", "kind": "items", "pattern": f"{shop.files}/items.csv.gz",
        "raw_columns": {"article": "string", "stock": "double", "since": "string"},
        "columns": {"item_id": "article", "stock": "stock"}, "valid_from": "since",
    })  # fmt: skip
    assert reasons(spark, shop, description) == [
        ("quarantined", ["unfit_stock"]),
        ("accepted", []),
        ("quarantined", ["unfit_valid_from"]),
        ("quarantined", ["no_valid_from"]),
    ]


def test_an_epoch_beyond_all_years_is_unparsable(spark: SparkSession, shop: Till) -> None:
    shop.describe(timestamp_formats=["epoch_seconds"])
    times = ["1704103200", "1704103200000", "99999999999999"]  # the last overflows Spark's own
    shop.deliver("day.csv.gz", [line(FIRST_DAY, 1, time=time) for time in times])
    [description] = read_descriptions(shop.config, RUN_DATE)
    unparsable = ("quarantined", ["unparsable_time"])
    assert reasons(spark, shop, description) == [("accepted", []), unparsable, unparsable]


def test_a_folder_s_rows_are_named_with_the_day_of_the_pattern(
    spark: SparkSession, shop: Till
) -> None:
    loaded = spark.createDataFrame([("a1", "York"), ("a2", "Leeds")], "article string, town string")
    description = SourceDescription.model_validate({
        "name": "items", "kind": "items", "format": {"type": "delta"}, "pattern": "/filled/in/below",
        "raw_columns": {"article": "string"}, "columns": {"item_id": "article"},
    })  # fmt: skip

    def units(undated: str, **change: str) -> tuple[str, ...]:
        undated = f"{shop.files}/{undated}"
        filled = undated.replace("{day}", str(date(2024, 1, 1)))
        loaded.write.format("delta").mode("ignore").save(filled)
        change |= {"pattern": filled, "undated_pattern": undated}
        return read_raw_rows(spark, description.model_copy(update=change)).unit_names

    assert units("{day}/rows") == ("2024-01-01/rows",)
    assert units("rows/{day}/") == ("2024-01-01",)
    assert units("rows/all") == ("all",)
    assert units("{day}/rows", partition="town") == (
        "2024-01-01/rows/town=Leeds",
        "2024-01-01/rows/town=York",
    )
    assert units("rows/all", partition="town") == ("town=Leeds", "town=York")
