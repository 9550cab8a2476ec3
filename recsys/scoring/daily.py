"""A day's lists, whole: checked first, written after, the record last."""

from __future__ import annotations

from datetime import date

import structlog
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.lake import Lake
from recsys.records import ModelManifest, RankingManifest, ScoringRecord
from recsys.scoring.bundle import open_bundle
from recsys.scoring.choice import Choice, proven
from recsys.scoring.kit_tables import build_kit
from recsys.scoring.ranking_bundle import checked_ranking
from recsys.scoring.scorer import Entry
from recsys.scoring.shelves import allowed_items, popular_items, similar_items
from recsys.scoring.spark import score_users, scoring_task, users_to_score

log = structlog.get_logger()


def score_day(lake: Lake, config: RecsysConfig, run_date: date, choice: Choice) -> ScoringRecord:
    """Write top_n_lists, similar_items and popular_items of ``run_date``, then what they were made with.

    A new model whose export was not proven does not score: the live one does.

    Raises:
        CorruptArtifact: a file of the model is not what its manifest says; nothing was written.
        MissingInput: the model or a table of the day is not there; nothing was written.
        Refused: the export was not proven and no release is live; nothing was written.
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
    kit = build_kit(lake, config, run_date)
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
        lists = score_users(
            users_to_score(lake, run_date, numbered=bool(rankings)), task, entry,
            n=config.scoring.n, partitions=config.scoring.partitions,
        )  # fmt: skip
        lists = lists.withColumn("as_of", F.lit(run_date))
        lists = lists.withColumn("model_version", F.lit(choice.model_version))
        lake.replace(lists, contracts.TOP_N_LISTS, where)
    shelf = similar_items(
        lake.read(contracts.ITEM_SIMILARITY, as_of=run_date),
        allowed_items(lake.spark, kit),
        as_of=run_date,
        n=config.scoring.similar_n,
    )
    lake.replace(shelf, contracts.SIMILAR_ITEMS, where)
    popular = popular_items(lake.spark, kit, task.rules, as_of=run_date, n=config.scoring.popular_n)
    lake.replace(popular, contracts.POPULAR_ITEMS, where)

    as_of = bundle.manifest.as_of
    record = ScoringRecord(
        run_date=run_date,
        model_version=choice.model_version,
        model_as_of=as_of,
        model_age_days=(run_date - as_of).days,
        reason=choice.reason,
        recipe=choice.recipe,
        ranking_version=ranking_version,
    )
    record.write(config.paths)
    return record
