"""A day's lists, whole: checked first, written after, the record last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date

import structlog

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.records import ModelManifest, RankingManifest, ScoringRecord
from recsys.scoring.bundle import open_bundle
from recsys.scoring.choice import Choice, proven
from recsys.scoring.kit_tables import build_ruled_kit
from recsys.scoring.list_files import write_lists
from recsys.scoring.ranking_bundle import checked_ranking
from recsys.scoring.rule_counts import Row, rule_rows, write_rules
from recsys.scoring.scorer import Entry, check_reorders
from recsys.scoring.shelves import write_shelves
from recsys.scoring.spark import scoring_task, users_to_score

log = structlog.get_logger()

FROZEN = (
    contracts.EVENTS, contracts.ITEMS, contracts.USERS, contracts.VOCABULARIES, contracts.HISTORIES,
    contracts.SEEN_ITEMS, contracts.ITEM_SIMILARITY, contracts.TRANSITIONS,
    contracts.REORDER_INTERVALS, contracts.POPULARITY,
)  # fmt: skip
"""What lists are made from, and score_changes reads as it was."""


def versions_of(lake: Lake) -> dict[str, int]:
    """Newest versions, before anything is read: of two versions the older is the safe one to carry lists over from."""
    return {table.name: lake.version(table) for table in FROZEN if lake.exists(table)}


def settings_hash(config: RecsysConfig) -> str:
    """Of what decides a list, rules and seen items aside: those are compared by what they take."""
    said = {
        "shop": config.shop.model_dump(mode="json", exclude={"name", "exclude_seen"}),
        "features": config.features.model_dump(mode="json"),
        "scoring": config.scoring.model_dump(
            mode="json", include={"n", "similar_n", "popular_n", "segment_prior_buyers"}
        ),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def score_day(lake: Lake, config: RecsysConfig, run_date: date, choice: Choice) -> ScoringRecord:
    """Write top_n_lists, the shelves (``write_shelves``) and rules of ``run_date``, then what they were made with.

    A new model whose export was not proven does not score: the live one does.

    Raises:
        CorruptArtifact: a file of the model is not what its manifest says; nothing was written.
        MissingInput: the model or a table of the day is not there; nothing was written.
        Refused: the export was not proven and no release is live, or a rule leaves nothing to offer; nothing was
            written.
    """
    models = config.paths.models
    manifest = ModelManifest.read(models / choice.model_version)
    ranking = (
        RankingManifest.read(models / choice.ranking_version) if choice.recipe.re_ranks else None
    )
    choice = proven(choice, manifest, run_date, ranking)
    bundle = open_bundle(models / choice.model_version)
    ranking_version = choice.ranking_version if choice.recipe.re_ranks else ""
    if ranking_version:
        checked_ranking(models / ranking_version)
    versions = versions_of(lake)
    ruled = build_ruled_kit(lake, config, run_date)
    kit = ruled.kit
    check_reorders(choice.recipe, kit)
    log.info(
        "scoring_started", items=kit.width - 1, allowed=int(kit.allowed.sum()), n=config.scoring.n,
        model_version=choice.model_version, ranking_version=ranking_version,
        recipe=choice.recipe.name, reason=choice.reason,
        items_newer_than_model=max(kit.width - 1 - bundle.manifest.num_items, 0),
    )  # fmt: skip

    ScoringRecord.discard(config.paths, run_date)
    where = {"as_of": run_date}
    entry = Entry(choice.recipe, choice.model_version, ranking_version)
    rankings = (ranking_version,) if ranking_version else ()
    with scoring_task(lake.spark, config, kit, (choice.model_version,), rankings) as task:
        users = users_to_score(
            lake, run_date, exclude_seen=config.shop.exclude_seen, numbered=bool(rankings),
            returned_days=config.rules.returned_days,
        )  # fmt: skip
        to = lake.destination(contracts.TOP_N_LISTS, where)
        lists = write_lists(
            users, task, entry, to, n=config.scoring.n, partitions=config.scoring.partitions
        )
        written = lake.commit_files(to, lists.files)
    write_shelves(lake, kit, task.rules, config.scoring, run_date)
    rows = rule_rows(ruled, config, task.rules, lists.counted)
    write_rules(lake, rows, run_date)
    _say_what_rules_took(rows, lists.counted, run_date)

    as_of = bundle.manifest.as_of
    record = ScoringRecord(
        run_date=run_date,
        model_version=choice.model_version,
        model_as_of=as_of,
        model_age_days=(run_date - as_of).days,
        reason=choice.reason,
        recipe=choice.recipe,
        ranking_version=ranking_version,
        versions=versions,
        settings=settings_hash(config),
        events_version=versions.get(contracts.EVENTS.name, 0),
        lists_version=written.version,
    )
    record.write(config.paths)
    return record


def _say_what_rules_took(rows: list[Row], counted: Mapping[str, int], run_date: date) -> None:
    for row in rows:
        said = dict(zip(contracts.RULES.column_names, row, strict=True))
        log.info(
            "rule_applied", rule=said["rule"], segment=said["segment"], items=said["num_items"],
            users=said["num_users"], places=said["num_places"],
        )  # fmt: skip
    if empty := counted["without_a_list"]:
        log.warning(
            "users_without_a_list", users=empty, of=counted["users"], as_of=str(run_date),
            reason="the rules leave nothing for them; see the table rules",
        )  # fmt: skip
