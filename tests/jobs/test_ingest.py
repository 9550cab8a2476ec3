"""The ingest job on shops whose counts are known."""

from __future__ import annotations

import csv
import gzip
import re
import shutil
from collections import Counter
from datetime import date
from itertools import islice
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs import generate_shop, ingest
from recsys import contracts
from recsys.config import RecsysConfig, load_config
from recsys.config.places import CHECKOUT
from recsys.ingest import read_descriptions
from recsys.ingest.judged_rows import judge_rows
from recsys.ingest.quality import FileCounts, count_rows
from recsys.ingest.raw_rows import read_raw_rows
from recsys.lake import Lake

ONLINE_RETAIL = CHECKOUT / "data" / "online_retail" / "online_retail_2009_2010_raw.csv.gz"
JOURNEY = CHECKOUT / "data" / "complete_journey"
# Reason codes of the description beside the kinds of dirt of the generator.
REASON_OF_DIRT = {
    "bad_timestamp": "unparsable_event_time",
    "missing_item": "no_item_id",
    "unknown_type": "unknown_event_type",
    "negative_price": "negative_price",
}


@pytest.mark.spark
@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_planted_counts_are_the_counts_of_data_quality(
    spark: SparkSession, tmp_path: Path, file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECSYS_CONF", raising=False)
    events = "shop_events" if file_format == "csv" else "shop_events_parquet"
    config = load_config("generated_shop", [
        f"paths.root={tmp_path / 'var'}", f"generate_shop.directory={tmp_path / 'shop'}",
        f"generate_shop.file_format={file_format}", f"ingest.sources=[{events},shop_items,shop_users]",
        "generate_shop.users=60", "generate_shop.items=30", "generate_shop.item_groups=5",
        "generate_shop.events=3000", "generate_shop.days=10",
        "generate_shop.dirty_shares={bad_timestamp: .02, missing_item: .02, unknown_type: .02, "
        "negative_price: .02, duplicate_row: .02}",
    ])  # fmt: skip
    lake = Lake(spark, config.paths)
    planted = generate_shop.run(lake, config, date.min)

    ingest.run(lake, config, date.fromisoformat(planted.first_run_date))

    rows = lake.read(contracts.DATA_QUALITY, source=events).collect()
    found: Counter[str] = Counter()
    for row in rows:
        if row["check"] in {"rows", "reason"}:
            found[row["subject"]] += int(row["value"])
    dirt = planted.dirty_rows
    assert found["raw"] == planted.raw_rows
    assert found["accepted"] == planted.accepted_rows == 3000
    assert found["duplicates"] == dirt["duplicate_row"] > 30
    assert {kind: found[reason] for kind, reason in REASON_OF_DIRT.items()} == {
        kind: dirt[kind] for kind in REASON_OF_DIRT
    }
    by_file = {
        r["source_file"]: int(r["value"])
        for r in rows
        if r["check"] == "rows" and r["subject"] == "raw"
    }
    assert by_file == planted.raw_rows_by_file
    by_type = lake.read(contracts.EVENTS).groupBy("event_type").count().collect()
    assert {r["event_type"]: r["count"] for r in by_type} == {
        k: n for k, n in planted.events_by_type.items() if n
    }
    assert lake.read(contracts.ITEMS).where("stock = 0").count() == len(planted.out_of_stock_items)


def judged(spark: SparkSession, config: RecsysConfig, run_date: date) -> dict[str, FileCounts]:
    counts = {}
    for description in read_descriptions(config, run_date):
        raw = read_raw_rows(spark, description)
        [counts[description.name]] = count_rows(judge_rows(raw, config, run_date), raw)
    return counts


def cut_conf(folder: Path, layer: str, files: dict[str, Path], rows: int) -> Path:
    """Our conf, with ``files`` cut to their first rows."""
    shutil.copytree(CHECKOUT / "conf", folder / "conf", ignore=shutil.ignore_patterns("private"))
    for source, path in files.items():
        with gzip.open(path, "rb") as whole, gzip.open(folder / path.name, "wb") as part:
            part.writelines(islice(whole, rows + 1))
        place = folder / "conf" / layer / "sources" / f"{source}.yml"
        place.write_text(
            yaml.safe_dump(yaml.safe_load(place.read_text()) | {"pattern": str(folder / path.name)})
        )
    return folder / "conf"


@pytest.mark.spark
def test_online_retail_is_judged_as_a_plain_reading_does(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = cut_conf(tmp_path, "base", {"online_retail": ONLINE_RETAIL}, rows=20_000)
    monkeypatch.setenv("RECSYS_CONF", str(conf))
    found = judged(spark, load_config("local"), date(2010, 12, 10))["online_retail"]

    with gzip.open(tmp_path / ONLINE_RETAIL.name, "rt", newline="") as text:
        rows = [tuple(row) for row in csv.reader(text)][1:]
    reasons: Counter[str] = Counter()
    refused = 0
    for row in set(rows):
        price, code = float(row[5]), row[1].strip().upper()
        broken = {
            "price_zero": price == 0,
            "price_negative": price < 0,
            "postage_or_carriage": code in {"POST", "DOT", "C2", "C3"},
            "manual_entry": code == "M",
            "discount": code == "D",
            "adjustment": bool(re.fullmatch("ADJUST[0-9]*|B", code)),
            "bank_or_market_fee": code in {"BANK CHARGES", "AMAZONFEE"},
            "samples": code == "S",
            "test_item": code.startswith("TEST"),
            "gift_voucher": code.startswith("GIFT"),
            "not_an_invoice": row[0].startswith("A"),
        }
        reasons.update(name for name, is_broken in broken.items() if is_broken)
        refused += any(broken.values())
    assert (found.raw, found.duplicates) == (len(rows), len(rows) - len(set(rows)))
    assert (found.quarantined, found.accepted) == (refused, len(set(rows)) - refused)
    assert found.reasons == dict(reasons)
    assert found.duplicates > 100 < found.quarantined


@pytest.mark.spark
@pytest.mark.slow
def test_the_whole_of_online_retail_adds_up(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECSYS_CONF", raising=False)
    found = judged(spark, load_config("local"), date(2010, 12, 10))["online_retail"]
    assert (found.raw, found.accepted, found.quarantined, found.duplicates) == (
        525_461,
        511_989,
        6_607,
        6_865,
    )
    assert found.reasons == {
        "price_zero": 3_681, "postage_or_carriage": 1_740, "manual_entry": 848, "discount": 100,
        "bank_or_market_fee": 74, "adjustment": 73, "gift_voucher": 67, "samples": 41, "test_item": 17,
        "not_an_invoice": 3, "price_negative": 3,
    }  # fmt: skip


@pytest.mark.spark
def test_complete_journey_goes_through_with_conf_alone(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "journey_transactions": JOURNEY / "transactions_sample.csv.gz",
        "journey_products": JOURNEY / "products.csv.gz",
        "journey_households": JOURNEY / "demographics.csv.gz",
    }
    conf = cut_conf(tmp_path, "complete_journey", files, rows=5_000)
    monkeypatch.setenv("RECSYS_CONF", str(conf))
    config = load_config("complete_journey", [f"paths.root={tmp_path / 'var'}"])
    lake = Lake(spark, config.paths)

    done = {f.source: f for f in ingest.run(lake, config, date(2018, 1, 1)).files}

    with gzip.open(tmp_path / "transactions_sample.csv.gz", "rt") as text:
        sold = [(float(r["quantity"]), float(r["sales_value"])) for r in csv.DictReader(text)]
    lines = done["journey_transactions"]
    assert lines.accepted == sum(0 < pieces <= 1000 and paid > 0 for pieces, paid in sold)
    assert lines.reasons == {
        "no_quantity": sum(pieces <= 0 for pieces, _ in sold),
        "fuel": sum(pieces > 1000 for pieces, _ in sold),
        "nothing_paid": sum(paid <= 0 for _, paid in sold),
    }
    assert (done["journey_products"].accepted, done["journey_households"].accepted) == (5_000, 801)
    ice = lake.read(contracts.ITEMS, item_id="25671").first()
    assert ice is not None
    assert (ice["title"], ice["category"]) == (
        "ICE - CRUSHED/CUBED 22 LB", "GROCERY > FRZN ICE > ICE - CRUSHED/CUBED",
    )  # fmt: skip
    household = lake.read(contracts.USERS, user_id="1").first()
    assert household is not None
    assert (household["segment"], household["attributes"]["age"]) == ("35-49K", "65+")


@pytest.mark.spark
@pytest.mark.slow
def test_the_whole_of_complete_journey_adds_up(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECSYS_CONF", raising=False)
    done = judged(spark, load_config("complete_journey"), date(2018, 1, 1))
    assert {f.source: (f.raw, f.accepted, f.quarantined, f.duplicates) for f in done.values()} == {
        "journey_transactions": (75_000, 73_779, 1_221, 0),
        "journey_products": (92_331, 92_331, 0, 0),
        "journey_households": (801, 801, 0, 0),
    }


def test_accept_volume_reaches_the_configuration_as_it_was_typed() -> None:
    reason = 'it\'s "stocktaking": [closed]'
    arguments = ["--run-date", "2010-12-10", "--dry-run", "--accept-volume", reason]
    answer = CliRunner().invoke(ingest.app, arguments)
    assert answer.exit_code == 0
    resolved = yaml.safe_load(answer.stdout.partition("# ingest")[0])
    assert resolved["ingest"]["accept_volume"] == reason
