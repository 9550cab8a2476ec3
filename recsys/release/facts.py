"""The facts of a manifest: table versions and hashes, the model's files, code, configuration, golden users."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from functools import reduce

import structlog
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

import recsys
from recsys.commit import checkout_commit
from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.rules import SEEN
from recsys.contracts import (
    ALSO_BOUGHT,
    DATA_QUALITY,
    EVENTS,
    HISTORIES,
    ITEM_SIMILARITY,
    ITEM_VECTORS,
    ITEMS,
    POPULAR_ITEMS,
    POPULARITY,
    REORDER_INTERVALS,
    RULES,
    SEEN_ITEMS,
    SIMILAR_ITEMS,
    TOP_N_LISTS,
    TRANSITIONS,
    USERS,
    VOCABULARIES,
    TableContract,
)
from recsys.errors import MissingInput
from recsys.lake import Lake
from recsys.lake.schema import content_hash, content_hash_columns
from recsys.records import RankingManifest, ScoringRecord, verify_model
from recsys.release.lists import Lists
from recsys.release.manifest import AcceptedVolume, CodeVersion, ReleaseModel, TableVersion
from recsys.release.stored_list import Place, answer_hash
from recsys.scoring.increment import GONE

log = structlog.get_logger()

INPUTS: tuple[TableContract, ...] = (
    VOCABULARIES, HISTORIES, SEEN_ITEMS, ITEM_SIMILARITY, TRANSITIONS, REORDER_INTERVALS, POPULARITY,
)  # fmt: skip
"""What was made of the full run's day: until the next one lists rest on it, as that run read it."""
TABLES: tuple[TableContract, ...] = (
    EVENTS, ITEMS, USERS, *INPUTS, ITEM_VECTORS, RULES, TOP_N_LISTS, SIMILAR_ITEMS, ALSO_BOUGHT,
    POPULAR_ITEMS,
)  # fmt: skip
"""What a manifest names, where it exists and decided a list."""

NOT_CONTENT: dict[str, bool | set[str]] = {
    **dict.fromkeys(
        ("env", "paths", "spark", "serving", "generate_shop", "audit", "retention"), True
    ),
    "publish": {"url", "min_users_share"},
    # What a person says of one run:
    "gate": {"bootstrap"},
    "ingest": {"accept_volume"},
}
"""Sections and keys that say where and how, not what."""


def facts_of_release(
    lake: Lake, config: RecsysConfig, run_date: date, scoring: ScoringRecord
) -> dict[str, TableVersion]:
    """``table_facts`` of each table that the lists of ``run_date`` rest on; everything after is read at these versions.

    Inputs are named as they were scored with; one whose version is gone (a run date that is published again after
    weeks) as it is now, the others as they were. They are hashed like the others: a row a user and some hundred an
    item, where ``events`` has as many as there are.
    """
    tables = [table for table in TABLES if lake.exists(table)]
    tables = [table for table in tables if _decided(table, lake, config, run_date, scoring)]
    names = {table.name for table in tables}
    scored = {t.name: scoring.versions[t.name] for t in INPUTS if t.name in scoring.versions}
    newest = {t.name: lake.version(t) for t in tables}
    versions = newest | {name: version for name, version in scored.items() if name in names}
    try:
        found = table_facts(lake, versions, run_date, scoring)
    except (PySparkException, Py4JJavaError) as error:
        if not GONE.search(str(error)):
            raise
        versions |= _instead_of_gone(lake, versions, newest, run_date, scoring)
        found = table_facts(lake, versions, run_date, scoring)
    return _with_shelves_of_the_day(found)


def _instead_of_gone(
    lake: Lake,
    versions: dict[str, int],
    newest: dict[str, int],
    run_date: date,
    scoring: ScoringRecord,
) -> dict[str, int]:
    """The newest version of each input that cannot be read as it was scored with."""
    instead: dict[str, int] = {}
    for name in (one for one in versions if versions[one] != newest[one]):  # which of them is it?
        try:
            table_facts(lake, {name: versions[name]}, run_date, scoring)
        except (PySparkException, Py4JJavaError) as error:
            if not GONE.search(str(error)):
                raise
            instead[name] = newest[name]
            log.warning(
                "input_is_gone", table=name, run_date=str(run_date),
                version=versions[name], named=newest[name],
            )  # fmt: skip
    return instead


def _with_shelves_of_the_day(found: dict[str, TableVersion]) -> dict[str, TableVersion]:
    """Without also_bought where it says nothing of the day: lists that were scored before there was any.

    Else every item would have an empty list, where nobody knows. A shop without transitions has none to know.
    """
    after, steps = found.get(ALSO_BOUGHT.name), found.get(TRANSITIONS.name)
    if after is None or after.rows or steps is None or not steps.rows:
        return found
    log.warning("also_bought_left_out", reason="it has no rows of the run date")
    return {name: facts for name, facts in found.items() if name != ALSO_BOUGHT.name}


def _decided(
    table: TableContract, lake: Lake, config: RecsysConfig, run_date: date, scoring: ScoringRecord
) -> bool:
    if table is SEEN_ITEMS:
        return _hid_seen(lake, config, run_date)
    return table is not REORDER_INTERVALS or scoring.recipe.due > 0


def _hid_seen(lake: Lake, config: RecsysConfig, run_date: date) -> bool:
    """As the day was scored, whatever conf says since; before there was the table, conf is all there is."""
    if not lake.exists(RULES):
        return config.shop.exclude_seen
    return not lake.read(RULES, as_of=run_date).where(F.col("rule") == SEEN).isEmpty()


def table_facts(
    lake: Lake, versions: dict[str, int], run_date: date, scoring: ScoringRecord
) -> dict[str, TableVersion]:
    """Version, rows and content hash of the rows that the release of ``run_date`` rests on."""
    tables = [table for table in TABLES if table.name in versions]
    found = {
        row["name"]: row
        for row in reduce(
            DataFrame.union,
            (
                _rows_used(lake.read(table, version=versions[table.name]), table, run_date, scoring)
                .agg(*content_hash_columns(table))
                .withColumn("name", F.lit(table.name))
                for table in tables
            ),
        ).collect()
    }  # one job for all: each would cost a second of planning and scheduling
    return {
        table.name: TableVersion(
            version=versions[table.name],
            rows=found[table.name]["rows"],
            content_hash=content_hash(
                found[table.name]["rows"],
                found[table.name]["hash_sum"],
                found[table.name]["hash_xor"],
            ),
        )
        for table in tables
    }


def users_with_a_list(user_lists: DataFrame) -> int:
    """Users for whom something is left to offer."""
    return user_lists.where(F.size("item_ids") > 0).count()


def key_counts(lists: list[Lists], tables: dict[str, TableVersion]) -> dict[str, int]:
    """Keys of each kind that the snapshot must hold."""
    counts = {"users": tables[TOP_N_LISTS.name].rows}  # a row per user
    counted = (
        one.rows.agg(F.count("id").alias("n")).withColumn("kind", F.lit(one.kind))
        for one in lists
        if one.kind not in counts
    )
    return counts | {row["kind"]: row["n"] for row in reduce(DataFrame.union, counted).collect()}


def _rows_used(
    rows: DataFrame, table: TableContract, run_date: date, scoring: ScoringRecord
) -> DataFrame:
    if table is EVENTS:
        return rows.where(F.col("event_date") < F.lit(run_date))
    if table in {ITEMS, USERS}:
        return rows.where(F.col("valid_from") < F.lit(run_date))
    if table is ITEM_VECTORS:
        return rows.where(
            (F.col("as_of") == F.lit(scoring.model_as_of))
            & (F.col("model_version") == F.lit(scoring.model_version))
        )
    day = "version" if table is VOCABULARIES else "as_of"
    return rows.where(F.col(day) == F.lit(scoring.inputs_as_of if table in INPUTS else run_date))


def model_facts(paths: PathsConfig, scoring: ScoringRecord) -> ReleaseModel:
    """The models that scored, their files checked against their checksums.

    Raises:
        MissingInput: the recipe needs a model, or a ranking model, and its folder is not there.
        CorruptArtifact: a file of the model is missing or its checksum is off.
    """
    hashed = ranking_hash = ""
    try:
        hashed = _hash_of_files(verify_model(paths.models / scoring.model_version).files)
    except MissingInput:
        if scoring.recipe.model:
            raise
    if scoring.ranking_version:
        ranking = RankingManifest.verified(paths.models / scoring.ranking_version)
        ranking_hash = _hash_of_files(ranking.files)
    return ReleaseModel(
        version=scoring.model_version,
        as_of=scoring.model_as_of,
        hash=hashed,
        age_days=scoring.model_age_days,
        reason=scoring.reason,
        ranking_version=scoring.ranking_version,
        ranking_hash=ranking_hash,
    )


def _hash_of_files(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def accepted_volumes(lake: Lake, run_date: date) -> tuple[AcceptedVolume, ...]:
    """The volumes of ``run_date`` that a check refused and a person took."""
    rows = lake.read_or_empty(DATA_QUALITY, run_date=run_date).where(
        "check = 'volume' AND verdict = 'accepted'"
    )
    return tuple(
        AcceptedVolume(
            job=row["job"], subject=row["subject"], value=row["value"], reason=row["reason"] or ""
        )
        for row in rows.orderBy("job", "subject", "source", "source_file").collect()
    )


def golden_users(user_lists: DataFrame, users: int) -> dict[str, str]:
    """``users`` users, chosen by hash, and the hash of what the table offers them."""
    chosen = user_lists.orderBy(F.xxhash64("id"), "id").limit(users)
    return {
        row["id"]: answer_hash(
            Place(*place)
            for place in zip(row["item_ids"], row["scores"], row["sources"], strict=True)
        )
        for row in chosen.select("id", "item_ids", "scores", "sources").collect()
    }


def config_hash(config: RecsysConfig) -> str:
    """Hash of every section that can change a list."""
    sections = config.model_dump(mode="json", exclude=NOT_CONTENT)
    return hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()


def code_version() -> CodeVersion:
    """The package's version, and the checkout's commit where git knows one ('-dirty': with local changes)."""
    return CodeVersion(package=recsys.__version__, commit=checkout_commit())
