"""What a manifest says of the tables that lists were made from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from structlog.testing import capture_logs

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.records import Recipe, ScoringRecord
from recsys.release.facts import INPUTS, facts_of_release, table_facts
from tests.release.shop import RUN_DATE, write_scoring_record, write_table

pytestmark = pytest.mark.spark

FULL = RUN_DATE - timedelta(days=3)
"""The full run; ``score_changes`` made the lists of RUN_DATE."""


def rows_of(contract: contracts.TableContract, num: int) -> list[dict[str, Any]]:
    """Two rows of the full run and one of the run date, nothing null that may not be."""
    some = {
        "string": "tea", "int": num, "bigint": num, "double": 0.5, "boolean": False,
        "array<string>": ["tea"], "array<int>": [num], "array<float>": [1.0],
    }  # fmt: skip
    row = {column.name: some.get(column.type) for column in contract.columns}
    key, day = (
        ("id", "version") if contract is contracts.VOCABULARIES else (contract.key[0], "as_of")
    )
    return [row | {day: FULL}, row | {day: FULL, key: "cup"}, row | {day: RUN_DATE}]


@pytest.fixture
def increment(lists: RecsysConfig) -> RecsysConfig:
    """Inputs that were built anew, with other rows, after the full run had read them."""
    root = Path(lists.paths.lake_uri)
    for num in (1, 2):
        for contract in INPUTS:
            write_table(root, contract, rows_of(contract, num))
    write_scoring_record(
        lists.paths, full_as_of=FULL, versions={table.name: 0 for table in INPUTS},
        recipe=Recipe(name="blend", similarity=1.0, due=0.5),
    )  # fmt: skip
    return lists.model_copy(update={"shop": lists.shop.model_copy(update={"exclude_seen": True})})


def test_inputs_are_named_as_they_were_scored_with(
    spark: SparkSession, increment: RecsysConfig
) -> None:
    lake = Lake(spark, increment.paths)
    record = ScoringRecord.read(increment.paths, RUN_DATE)

    found = facts_of_release(lake, increment, RUN_DATE, record)

    assert {"top_n_lists", *(table.name for table in INPUTS)} <= found.keys()
    built_anew = table_facts(lake, {table.name: 1 for table in INPUTS}, RUN_DATE, record)
    for table in INPUTS:
        named = found[table.name]
        assert (named.version, named.rows) == (0, 2), "of the full run's day alone"
        assert named.content_hash != built_anew[table.name].content_hash


def test_what_decided_no_list_is_not_named(spark: SparkSession, increment: RecsysConfig) -> None:
    lake = Lake(spark, increment.paths)
    record = ScoringRecord.read(increment.paths, RUN_DATE)
    buys_again = increment.model_copy(
        update={"shop": increment.shop.model_copy(update={"exclude_seen": False})}
    )
    without = record.model_copy(update={"recipe": Recipe(name="blend", similarity=1.0)})

    found = facts_of_release(lake, buys_again, RUN_DATE, without)

    assert {table.name for table in INPUTS} - found.keys() == {"seen_items", "reorder_intervals"}


def test_inputs_whose_version_is_gone_are_named_as_they_are_now(
    spark: SparkSession, increment: RecsysConfig
) -> None:
    lake = Lake(spark, increment.paths)
    record = ScoringRecord.read(increment.paths, RUN_DATE)
    for file in DeltaTable(lake.path(contracts.SEEN_ITEMS), version=0).file_uris():
        Path(file).unlink()  # VACUUM, after retention.vacuum_hours

    with capture_logs() as said:
        found = facts_of_release(lake, increment, RUN_DATE, record)

    assert {found[table.name].version for table in INPUTS} == {1}
    assert [one["event"] for one in said] == ["inputs_are_gone"]
