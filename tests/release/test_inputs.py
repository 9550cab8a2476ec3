"""What a manifest says of the tables that lists were made from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from structlog.testing import capture_logs

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.monitoring.tables import compare_tables
from recsys.records import Recipe, ScoringRecord
from recsys.release.facts import INPUTS, facts_of_release, table_facts
from recsys.release.inputs import release_inputs
from recsys.release.manifest import TableVersion
from recsys.release.opening import open_release
from recsys.release.pointer import release_folder
from recsys.release.publish import publish
from tests.release.making import NOON
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


def test_whether_what_was_seen_decided_a_list_is_what_its_rules_say(
    spark: SparkSession, increment: RecsysConfig
) -> None:
    lake = Lake(spark, increment.paths)
    root = Path(increment.paths.lake_uri)
    record = ScoringRecord.read(increment.paths, RUN_DATE)
    conf_says_no = increment.model_copy(
        update={"shop": increment.shop.model_copy(update={"exclude_seen": False})}
    )

    def is_named(config: RecsysConfig, rule: str) -> bool:
        seen = {"segment": "", "rule": rule, "definition": "{}", "num_items": 0, "stage": 2}
        write_table(root, contracts.RULES, [seen])
        return "seen_items" in facts_of_release(lake, config, RUN_DATE, record)

    assert is_named(conf_says_no, "seen"), "conf was changed after the day was scored"
    assert not is_named(increment, "blocked")


def lose(lake: Lake, contract: contracts.TableContract, version: int) -> None:
    """VACUUM, after retention.vacuum_hours."""
    for file in DeltaTable(lake.path(contract), version=version).file_uris():
        Path(file).unlink()


def test_an_input_whose_version_is_gone_is_named_as_it_is_now_and_the_others_as_they_were(
    spark: SparkSession, increment: RecsysConfig
) -> None:
    lake = Lake(spark, increment.paths)
    record = ScoringRecord.read(increment.paths, RUN_DATE)
    lose(lake, contracts.TRANSITIONS, 0)

    with capture_logs() as said:
        manifest = publish(lake, increment, RUN_DATE, now=NOON).manifest

    named = {table.name: manifest.tables[table.name].version for table in INPUTS}
    wanted = record.versions | {"transitions": 1}
    assert named == wanted
    assert manifest.inputs is not None
    assert manifest.inputs.versions == wanted, "an audit, and what is kept, go by these"
    gone = [one for one in said if one["event"] == "input_is_gone"]
    assert [(one["table"], one["version"], one["named"]) for one in gone] == [("transitions", 0, 1)]
    tables = compare_tables(lake, manifest)
    assert (tables.verdict, tables.examples) == ("ok", ())


def test_a_version_whose_log_is_gone_is_not_among_the_inputs(
    spark: SparkSession, increment: RecsysConfig
) -> None:
    lake = Lake(spark, increment.paths)
    root = Path(increment.paths.lake_uri)
    for _ in range(2):
        write_table(root, contracts.EVENTS, [])
    log = root / contracts.EVENTS.name / "_delta_log"
    DeltaTable(lake.path(contracts.EVENTS)).create_checkpoint()
    (log / f"{0:020}.json").unlink()
    record = ScoringRecord.read(increment.paths, RUN_DATE)
    knew = {contracts.EVENTS.name: 0, **record.versions}
    tables = {
        name: TableVersion(version=1, content_hash="h", rows=1)
        for name in (contracts.EVENTS.name, *record.versions)
    }

    found = release_inputs(lake, record.model_copy(update={"versions": knew}), tables)

    assert found.versions == dict.fromkeys(record.versions, 1)
    assert found.events_version is None
    newest = record.model_copy(update={"versions": knew | {"events": 1}, "events_version": 1})
    assert release_inputs(lake, newest, tables).events_version == 1


def test_a_lost_file_of_another_table_is_no_lost_input(
    spark: SparkSession, increment: RecsysConfig
) -> None:
    lake = Lake(spark, increment.paths)
    record = ScoringRecord.read(increment.paths, RUN_DATE)
    lose(lake, contracts.TOP_N_LISTS, 0)

    with (
        capture_logs() as said,
        pytest.raises((PySparkException, Py4JJavaError), match="top_n_lists"),
    ):
        facts_of_release(lake, increment, RUN_DATE, record)

    assert said == []


def test_a_day_that_was_scored_before_there_was_also_bought_is_published_without(
    spark: SparkSession, increment: RecsysConfig
) -> None:
    lake = Lake(spark, increment.paths)
    later = {"item_id": "tea", "rank": 1, "next_item_id": "cup", "score": 1.0}
    next_day = RUN_DATE + timedelta(days=1)
    write_table(
        Path(increment.paths.lake_uri), contracts.ALSO_BOUGHT, [later | {"as_of": next_day}]
    )

    manifest = publish(lake, increment, RUN_DATE, now=NOON).manifest

    assert "also_bought" not in {*manifest.tables, *manifest.lists, *manifest.counts}
    with open_release(release_folder(increment.paths, manifest.release_id)) as snapshot:
        assert snapshot.get("items", "tea")
        assert snapshot.get("also_bought", "tea") is None
